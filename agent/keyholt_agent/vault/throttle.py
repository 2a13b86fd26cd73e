"""Slowing down whoever tries passphrases, without slowing down anybody else.

- Counted by quota, such as that of a uid. The first ``FREE_FAILURES`` cost nothing; each further one doubles
  the wait, from 1 to 60 seconds.
- An attempt is charged before its outcome is known: attempts made side by side are worth no more than
  attempts made in turn. Success takes all charges back.
- What it remembers is bounded; with the table full, the quota that was quiet for longest is forgotten.
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

_MAX_QUOTAS: Final = 1024
"""Entries. A peer has one quota, so only root can make more."""


@dataclass(slots=True)
class _Account:
    charged: int = 0
    not_before: float = -math.inf


class UnlockThrottle:
    """Failed unlocks by quota."""

    def __init__(self) -> None:
        self._accounts: dict[Hashable, _Account] = {}

    def charge(self, quota: Hashable, now: float) -> None:
        """Charge one attempt that is about to be made.

        Raises:
            RateLimitedError: too early; the attempt is not charged.
        """
        account = self._accounts.pop(quota, None) or _Account()
        self._accounts[quota] = account  # Last again: the first entry is the one quiet for longest.
        if now < account.not_before:
            seconds = math.ceil(account.not_before - now)
            raise RateLimitedError(
                f"too many failed unlocks; try again in {seconds} s", details={"retry_after": seconds}
            )
        account.charged += 1
        account.not_before = now + self._wait(account.charged)
        if len(self._accounts) > _MAX_QUOTAS:
            del self._accounts[next(iter(self._accounts))]

    def failed(self, quota: Hashable, now: float) -> None:
        """A charged attempt has failed: its wait begins now, not when the derivation began."""
        account = self._accounts.get(quota)
        if account is not None:
            account.not_before = max(account.not_before, now + self._wait(account.charged))

    def succeeded(self, quota: Hashable) -> None:
        """Forget the failures of a quota."""
        self._accounts.pop(quota, None)

    @staticmethod
    def _wait(charged: int) -> float:
        """Seconds between this attempt and the next."""
        if charged <= FREE_FAILURES - 1:
            return 0.0
        return min(2.0 ** min(charged - FREE_FAILURES, 16), LONGEST_WAIT)
