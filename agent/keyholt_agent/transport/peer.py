"""Who is at the other end of a Unix socket, as the kernel says.

- ``SO_PEERCRED`` is taken once, at accept: it tells who connected, and cannot be forged (unix(7)).
- No name is looked up and nothing under /proc is read here.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import Final

from keyholt_agent.identity import PeerIdentity

__all__ = ["identify_peer", "peer_groups"]

_UCRED: Final = struct.Struct("3i")
_SO_PEERGROUPS: Final = 59
_MAX_GROUPS_SIZE: Final = 65536 * 4
"""Bytes: the kernel allows a process 65,536 supplementary groups (NGROUPS_MAX)."""


def identify_peer(sock: socket.socket) -> PeerIdentity:
    """The credentials of the process that connected.

    Raises:
        OSError: the socket has no peer any more.
    """
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return PeerIdentity(pid=pid, uid=uid, gid=gid)


def peer_groups(sock: socket.socket) -> frozenset[int]:
    """The supplementary groups of the process that connected; empty before Linux 4.13, which cannot tell."""
    for size in (1024, _MAX_GROUPS_SIZE):
        try:
            groups = array.array("I", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size))
        except OSError:
            continue
        return frozenset(groups)
    return frozenset()
