"""How many connections there may be, and of whom: what one peer opens never shuts out the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from keyholt_protocol.errors import ResourceExhaustedError

__all__ = ["ConnectionQuotas"]


class ConnectionQuotas:
    """Counts connections, in all and by the quota key of their principal.

    Args:
        total: connections open at once.
        unlimited: the keys of principals that may use all of them; any other may use half.
    """

    def __init__(self, total: int, unlimited: frozenset[Hashable]) -> None:
        self._total = total
        self._unlimited = unlimited
        self._count = 0
        self._by_key: Counter[Hashable] = Counter()

    @property
    def count(self) -> int:
        """Connections open now."""
        return self._count

    def take(self, key: Hashable) -> None:
        """Count a connection of the principal with this key.

        Raises:
            ResourceExhaustedError: there are too many.
        """
        allowed = self._total if key in self._unlimited else self._total // 2
        if self._count >= self._total or self._by_key[key] >= allowed:
            raise ResourceExhaustedError(
                "too many connections are open; close some, or raise listen.unix.max_connections"
            )
        self._count += 1
        self._by_key[key] += 1

    def give_back(self, key: Hashable) -> None:
        """A connection that was counted has ended."""
        self._count -= 1
        self._by_key[key] -= 1
        if not self._by_key[key]:
            del self._by_key[key]
