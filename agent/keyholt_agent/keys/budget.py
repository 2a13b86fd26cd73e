"""How often a version of a master key may still wrap.

- A version wraps at most ``WRAPS_PER_VERSION`` times.
- Wraps are counted before they are done: a block of them is reserved in the store, and only what a committed
  reservation granted may be used. A crash loses the rest of a block, so the count can only be too high.

It does not reach the store: ``shortage`` says what has to be written there, ``grant`` that it was.
"""

from __future__ import annotations

from typing import Final

from keyholt_protocol.errors import InternalError

__all__ = ["WRAPS_PER_VERSION", "WRAP_RESERVATION", "WrapBudget"]

WRAPS_PER_VERSION: Final = 2**20
"""Wraps of one version. NIST SP 800-38D, 8.3, allows 2^32 random nonces under one key; this keeps the
chance of a repeated nonce below 2^-57, and the harm of one stolen version small."""

WRAP_RESERVATION: Final = 1024
"""Wraps reserved in one commit: its cost is spread thin, and a crash wastes at most one in a thousand."""


class WrapBudget:
    """What one version of a master key may wrap.

    Args:
        reserved: how many wraps the store has counted; those that were not used are lost.

    Attributes:
        limit: wraps in all.
    """

    __slots__ = ("_left", "_reserved", "limit")

    def __init__(self, reserved: int) -> None:
        self.limit = WRAPS_PER_VERSION
        self._reserved = reserved
        self._left = 0

    @property
    def left(self) -> int:
        """Wraps that can be taken now."""
        return self._left

    def shortage(self) -> int | None:
        """How many wraps to reserve before the next one; 0: there are none, rotate. None: take it now."""
        if self._left > 0:
            return None
        return max(0, min(WRAP_RESERVATION, self.limit - self._reserved))

    def grant(self, count: int) -> None:
        """A reservation was committed: its wraps may be used."""
        self._reserved += count
        self._left += count

    def take(self) -> None:
        """Use one wrap."""
        if self._left <= 0:
            raise InternalError("a wrap was asked for that was not reserved in the store")
        self._left -= 1
