"""Who is at the other end of a Unix socket, as the kernel says.

- ``SO_PEERCRED`` is taken once, at accept: it tells who connected, and cannot be forged (unix(7)).
- No name is looked up and nothing under /proc is read here.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import Final, NamedTuple

from keyholt_agent.principal import Principal

__all__ = ["Credentials", "peer_credentials", "peer_groups", "uid_quota"]

_UCRED: Final = struct.Struct("3i")
_SO_PEERGROUPS: Final = 59
_GROUPS_SIZE: Final = 1024
"""Bytes, the most that Python's getsockopt takes: 256 groups. Who has more is not known by any of them."""


class Credentials(NamedTuple):
    """``pid`` is for logs only: it may name another process by the time that it is read."""

    pid: int
    uid: int
    gid: int

    def principal(self) -> Principal:
        """The peer as everything behind the transport knows it: limits are those of its uid."""
        return Principal(quota=uid_quota(self.uid), name=f"uid {self.uid}, pid {self.pid}")


def uid_quota(uid: int) -> tuple[str, int]:
    """What limits of a uid are counted by; no other kind of peer has such a key."""
    return "uid", uid


def peer_credentials(sock: socket.socket) -> Credentials:
    """The credentials of the process that connected.

    Raises:
        OSError: the socket has no peer any more.
    """
    return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def peer_groups(sock: socket.socket) -> frozenset[int]:
    """The supplementary groups of the process that connected.

    Empty before Linux 4.13, which cannot tell, and where they are more than 256: such a peer is served by its
    uid or its first group only.
    """
    try:
        return frozenset(array.array("I", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)))
    except OSError:
        return frozenset()
