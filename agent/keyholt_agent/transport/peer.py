"""Who is at the other end of a Unix socket, as the kernel says, and whether it is served at all.

- ``SO_PEERCRED`` is taken once, at accept: it tells who connected, and cannot be forged (unix(7)).
- No name is looked up and nothing under /proc is read here.
"""

from __future__ import annotations

import array
import socket
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["Admission", "PeerIdentity", "identify_peer", "peer_groups"]

_UCRED: Final = struct.Struct("3i")
_SO_PEERGROUPS: Final = 59
_MAX_GROUPS_SIZE: Final = 65536 * 4
"""Bytes: the kernel allows a process 65,536 supplementary groups (NGROUPS_MAX)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """``pid`` is for logs only: it may name another process by the time that it is read."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who is served: these uids, and members of this group."""

    uids: frozenset[int]
    group: int | None = None

    def admits(self, peer: PeerIdentity, sock: socket.socket) -> bool:
        """Whether the peer at the other end of ``sock`` is served."""
        if peer.uid in self.uids:
            return True
        if self.group is None:
            return False
        return self.group == peer.gid or self.group in peer_groups(sock)


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
