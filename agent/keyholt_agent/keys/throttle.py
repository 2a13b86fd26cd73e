"""Slowing down whoever tries passphrases, without slowing down anybody else.

- Counted by quota key, such as that of a uid. The first ``FREE_FAILURES`` cost nothing; each further one
  doubles the wait, from 1 to 60 seconds.
- An attempt is charged when it is admitted, before its outcome is known: attempts made side by side are
  worth no more than attempts made in turn. Success takes all charges back.
- What it remembers is bounded; with the table full, the key that was quiet for longest is forgotten.
- Pure: the time is an argument, of any clock that only rises.

It does not wait and does not know passphrases: it refuses, and the sentence says for how long.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from keyholt_protocol.errors import RateLimitedError

__all__ = ["FREE_FAILURES", "LONGEST_WAIT", "UnlockThrottle"]

FREE_FAILURES: Final = 3
"""Failed attempts after which waiting begins: a person mistypes now and then."""

LONGEST_WAIT: Final = 60.0
"""Seconds. Argon2 makes guessing slow; this keeps a loop from occupying the agent's derivation thread."""

_MAX_KEYS: Final = 1024
"""Entries. A peer has one key, so only root can make more."""


@dataclass(slots=True)
class _Record:
    charged: int = 0
    not_before: float = -math.inf


class UnlockThrottle:
    """Failed unlocks by quota key."""

    def __init__(self) -> None:
        self._records: dict[Hashable, _Record] = {}

    def check(self, key: Hashable, now: float) -> None:
        """Admit one attempt and charge it.

        Raises:
            RateLimitedError: too early; the attempt is not charged.
        """
        record = self._records.pop(key, None) or _Record()
        self._records[key] = record  # Last again: the first entry is the one quiet for longest.
        if now < record.not_before:
            seconds = math.ceil(record.not_before - now)
            raise RateLimitedError(
                f"too many failed unlocks; try again in {seconds} s", details={"retry_after": seconds}
            )
        record.charged += 1
        record.not_before = now + self._wait(record.charged)
        if len(self._records) > _MAX_KEYS:
            del self._records[next(iter(self._records))]

    def failed(self, key: Hashable, now: float) -> None:
        """An admitted attempt has failed: its wait begins now, not when the derivation began."""
        record = self._records.get(key)
        if record is not None:
            record.not_before = max(record.not_before, now + self._wait(record.charged))

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._records.pop(key, None)

    @staticmethod
    def _wait(charged: int) -> float:
        """Seconds between this attempt and the next."""
        if charged <= FREE_FAILURES - 1:
            return 0.0
        return min(2.0 ** min(charged - FREE_FAILURES, 16), LONGEST_WAIT)
