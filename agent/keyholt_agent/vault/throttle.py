"""Slowing down whoever tries passphrases, without slowing down anybody else.

- Counted by quota, such as that of a uid, and by keyslot: who tries a passphrase at several keyslots has
  tried it at each. The first ``FREE_FAILURES`` at a keyslot cost nothing; each further one doubles the wait
  there, from 1 to 60 seconds.
- An attempt is charged before its outcome is known: attempts made side by side are worth no more than
  attempts made in turn. Success takes back what was charged at the keyslot that opened, and there alone: who
  knows one passphrase gets no guesses at another by it.
- One thing more is taken back: a passphrase that opens a keyslot may be tried at those before it again and
  again, for it can fail there but once. It is that passphrase by the keyslot's id, which changes with it.
- What it remembers is bounded: keyslots that are gone are forgotten, and with the table full the quota that
  was quiet for longest.
- Pure: the time is an argument, of any clock that only rises.

It does not wait and does not know passphrases: it refuses, and the sentence says for how long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from keyholt_protocol.errors import RateLimitedError

__all__ = ["FREE_FAILURES", "LONGEST_WAIT", "UnlockThrottle"]

FREE_FAILURES: Final = 3
"""Failed attempts after which waiting begins: a person mistypes now and then."""

LONGEST_WAIT: Final = 60.0
"""Seconds. Argon2 makes guessing slow; this keeps a loop from occupying the agent's derivation thread."""

_MAX_QUOTAS: Final = 1024
"""Entries. A peer has one quota, so only root can make more."""

_MAX_KNOWN: Final = 64
"""Other keyslots' passphrases that are remembered to have failed at one: more than there are keyslots."""


@dataclass(slots=True)
class _Account:
    """What one quota has tried at one keyslot; ``known``: the keyslots whose passphrases failed here."""

    charged: int = 0
    not_before: float = -math.inf
    known: set[bytes] = field(default_factory=set[bytes])


class UnlockThrottle:
    """Failed attempts by quota and keyslot, which is named by its id."""

    def __init__(self) -> None:
        self._accounts: dict[Hashable, dict[bytes, _Account]] = {}

    def keep(self, quota: Hashable, slots: Collection[bytes]) -> None:
        """Say which keyslots there are; what a quota tried at others is forgotten."""
        accounts = self._accounts.get(quota, {})
        for gone in accounts.keys() - slots:
            del accounts[gone]

    def charge(self, quota: Hashable, slot: bytes, now: float) -> None:
        """Charge one attempt that is about to be made.

        Raises:
            RateLimitedError: too early; the attempt is not charged.
        """
        accounts = self._accounts.pop(quota, {})
        self._accounts[quota] = accounts  # Last again: the first entry is the one quiet for longest.
        account = accounts.setdefault(slot, _Account())
        if now < account.not_before:
            seconds = math.ceil(account.not_before - now)
            raise RateLimitedError(
                f"too many failed unlocks; try again in {seconds} s", details={"retry_after": seconds}
            )
        account.charged += 1
        account.not_before = now + self._wait(account.charged)
        if len(self._accounts) > _MAX_QUOTAS:
            del self._accounts[next(iter(self._accounts))]

    def failed(self, quota: Hashable, slot: bytes, now: float) -> None:
        """A charged attempt has failed: its wait begins now, not when the derivation began."""
        account = self._accounts.get(quota, {}).get(slot)
        if account is not None:
            account.not_before = max(account.not_before, now + self._wait(account.charged))

    def succeeded(self, quota: Hashable, slot: bytes, failed: Iterable[bytes] = ()) -> None:
        """Forget the failures of a quota at the keyslot that opened.

        Args:
            failed: those at which the same passphrase was charged before it, and failed.
        """
        accounts = self._accounts.get(quota, {})
        accounts.pop(slot, None)
        for other in failed:
            account = accounts.get(other)
            if account is None:
                continue
            if slot in account.known:  # it was tried here before, so nothing was learnt now
                account.charged -= 1
                account.not_before = -math.inf  # as it must have been, or the attempt had been refused
            elif len(account.known) < _MAX_KNOWN:
                account.known.add(slot)

    @staticmethod
    def _wait(charged: int) -> float:
        """Seconds between this attempt and the next."""
        if charged <= FREE_FAILURES - 1:
            return 0.0
        return min(2.0 ** min(charged - FREE_FAILURES, 16), LONGEST_WAIT)
