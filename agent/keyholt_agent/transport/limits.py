"""How many connections may be open, in all and by uid.

- What one uid opens never shuts out the rest: half of all connections is the most for any uid but root and
  the agent's own.
"""

from __future__ import annotations

from collections import Counter

from keyholt_protocol.errors import ResourceExhaustedError

__all__ = ["ConnectionLimits"]


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
