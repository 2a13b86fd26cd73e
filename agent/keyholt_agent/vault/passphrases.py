"""Getting at the root key with a passphrase: which keyslots are tried, how often, and on which thread.

- One passphrase is worked on at a time (``turn``), in a thread: the agent serves on meanwhile, and Argon2's
  memory stays bounded. What it reads and writes is locked memory, and the thread is left without residue.
- An attempt is charged before anything is derived.
- A damaged keyslot does not keep the others from opening.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.keys import kdf
from keyholt_agent.keys.keyslots import PassphraseSource, StoredKeyslot, derive_identity, open_slot
from keyholt_agent.memory.residue import run_in_thread
from keyholt_agent.vault.stored_keys import decode_slot
from keyholt_agent.vault.throttle import UnlockThrottle
from keyholt_protocol.errors import (
    BusyError,
    IntegrityError,
    InvalidRequestError,
    TooLargeError,
    UnlockFailedError,
)
from keyholt_protocol.limits import MAX_PASSPHRASE, PASSPHRASE_LENGTH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Iterable

    from keyholt_agent.clocks import Clock
    from keyholt_agent.keys.keyslots import KeyslotDraft
    from keyholt_agent.keys.recipients import Identity
    from keyholt_agent.keys.root_secret import RootSecret
    from keyholt_agent.memory import Arena
    from keyholt_agent.principal import Principal
    from keyholt_agent.store import SlotRow, SlotTable

__all__ = ["MAX_SLOTS", "Passphrases", "check_passphrase", "two_passphrases"]

MAX_SLOTS: Final = 32
"""Keyslots of a store; every one may have to be tried, at about a second each."""

MAX_WAITING: Final = 5
"""Passphrases of one principal, at about a second each, the one at work included; more are told to come back.
By principal, so that nobody's attempts keep another from unlocking."""

_log: Final = logging.getLogger("keyholt.unlock")


def check_passphrase(passphrase: memoryview) -> memoryview:
    """Refuse an empty passphrase, or one over the limit.

    Raises:
        InvalidRequestError, TooLargeError: see the message.
    """
    if not len(passphrase):
        raise InvalidRequestError(
            "the passphrase is empty; send it as the request's payload", details={"field": "payload"}
        )
    if len(passphrase) > MAX_PASSPHRASE:
        raise TooLargeError(
            f"the passphrase is longer than {MAX_PASSPHRASE} bytes; shorten it",
            details={"field": "payload", "limit": MAX_PASSPHRASE},
        )
    return passphrase


def two_passphrases(payload: memoryview) -> tuple[memoryview, memoryview]:
    """The two that a payload holds, the length of the first before it; no copies.

    Raises:
        InvalidRequestError, TooLargeError: either of them cannot be one, or the length is not of this
            payload.
    """
    size = int.from_bytes(payload[:PASSPHRASE_LENGTH], "big")
    rest = payload[PASSPHRASE_LENGTH:]
    if size >= len(rest):
        raise InvalidRequestError(
            "the payload holds no second passphrase; send the length of the first in "
            f"{PASSPHRASE_LENGTH} bytes, big-endian, the first, and the second",
            details={"field": "payload"},
        )
    return check_passphrase(rest[:size]), check_passphrase(rest[size:])


class Passphrases:
    """What turns passphrases into keys.

    Args:
        arena: for the keys.
        target: seconds that a derivation under new parameters should take.
        clock: for the waits after wrong passphrases.
        stopwatch: what a derivation is measured with.
        free_memory: bytes that are free on this machine.
    """

    def __init__(
        self,
        arena: Arena,
        *,
        target: float,
        clock: Clock,
        stopwatch: Clock,
        free_memory: Callable[[], int],
    ) -> None:
        self._arena: Final = arena
        self._target: Final = target
        self._clock: Final = clock
        self._stopwatch: Final = stopwatch
        self._free_memory: Final = free_memory
        self._throttle: Final = UnlockThrottle()
        self._at_work: Final = trio.Lock()
        self._waiting: Final[Counter[Hashable]] = Counter()  # by quota, the one at work included

    @asynccontextmanager
    async def turn(self, principal: Principal) -> AsyncGenerator[None, None]:
        """Held while keyslots are opened or changed: one at a time, and few of one principal waiting.

        Raises:
            BusyError: too many of this principal's wait already.
        """
        if self._waiting[principal.quota] >= MAX_WAITING:
            raise BusyError("too many passphrases are being checked; try again in a few seconds")
        self._waiting[principal.quota] += 1
        try:
            async with self._at_work:
                yield
        finally:
            self._waiting[principal.quota] -= 1

    async def open_keyslot(
        self, principal: Principal, passphrase: memoryview, table: SlotTable, candidates: Iterable[SlotRow]
    ) -> tuple[str, RootSecret]:
        """The name of the first candidate that the passphrase opens, and the root key, the caller's to
        release.

        Raises:
            UnlockFailedError: it opens none.
            RateLimitedError: too early after failures.
            IntegrityError: the only candidate is damaged.
        """
        check_passphrase(passphrase)
        self._throttle.charge(principal.quota, self._clock())
        damage: IntegrityError | None = None
        for row in islice(candidates, MAX_SLOTS):
            try:
                name, root = await self._open(passphrase, table.store_id, row)
            except UnlockFailedError:
                continue
            except IntegrityError as error:
                damage = error
                continue
            self._throttle.succeeded(principal.quota)
            return name, root
        self._throttle.failed(principal.quota, self._clock())
        _log.warning("a passphrase from %s opened no keyslot", principal.name)
        raise damage or UnlockFailedError

    async def derive(self, slot: KeyslotDraft, passphrase: memoryview) -> Identity:
        """The identity of a keyslot, the caller's to release; errors as of ``derive_identity``."""
        return await run_in_thread(derive_identity, self._arena, slot, PassphraseSource(passphrase))

    async def calibrated(self) -> kdf.Argon2Parameters:
        """Argon2id parameters that take about as long as configured, on this machine, now."""
        return await run_in_thread(kdf.calibrate, self._target, self._stopwatch, self._free_memory())

    async def _open(self, passphrase: memoryview, store_id: bytes, row: SlotRow) -> tuple[str, RootSecret]:
        """The name in the slot's header, authentic now that it has opened, and the root key."""
        slot = decode_slot(row)
        with await self.derive(slot, passphrase) as identity:
            stored = StoredKeyslot(header=row.header, wrapped_root=row.wrapped_root)
            return slot.name, open_slot(self._arena, stored, identity, store_id)
