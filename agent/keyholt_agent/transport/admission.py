"""Who is served at all, and how many connections of whom.

- Without configuration: the agent's own uid and root.
- What one uid opens never shuts out the rest: half of all connections is the most for any uid but root and
  the agent's own.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Final

from keyholt_agent.identity import PeerIdentity
from keyholt_agent.transport.peer import peer_groups
from keyholt_protocol.errors import ResourceExhaustedError

__all__ = ["OWN_UIDS", "Admission", "ConnectionLimits"]

OWN_UIDS: Final = frozenset({0, os.geteuid()})
"""Root, whom nothing keeps out anyway, and the user whom the agent runs as."""


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


class ConnectionLimits:
    """Counts connections, in all and by uid.

    Args:
        total: connections open at once.
        unlimited_uids: uids that may use all of them; any other may use half.
    """

    def __init__(self, total: int, unlimited_uids: frozenset[int]) -> None:
        self._total = total
        self._unlimited = unlimited_uids
        self._by_uid: Counter[int] = Counter()

    @property
    def count(self) -> int:
        return self._by_uid.total()

    def take(self, uid: int) -> None:
        """Count a connection of ``uid``.

        Raises:
            ResourceExhaustedError: there are too many.
        """
        allowed = self._total if uid in self._unlimited else self._total // 2
        if self.count >= self._total or self._by_uid[uid] >= allowed:
            raise ResourceExhaustedError(
                "too many connections are open; close some, or raise listen.unix.max_connections"
            )
        self._by_uid[uid] += 1

    def give_back(self, uid: int) -> None:
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]
