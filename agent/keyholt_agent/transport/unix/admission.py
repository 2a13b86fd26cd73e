"""Whose connections are served at all: without configuration, those of the agent's own uid and of root."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Final

from keyholt_agent.transport.unix.credentials import Credentials, peer_groups

__all__ = ["OWN_UIDS", "Admission"]

OWN_UIDS: Final = frozenset({0, os.geteuid()})
"""Root, whom nothing keeps out anyway, and the user whom the agent runs as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who is served: these uids, and members of this group."""

    uids: frozenset[int]
    group: int | None = None

    def admits(self, peer: Credentials, sock: socket.socket) -> bool:
        """Whether the peer at the other end of ``sock`` is served."""
        if peer.uid in self.uids:
            return True
        if self.group is None:
            return False
        return self.group == peer.gid or self.group in peer_groups(sock)
