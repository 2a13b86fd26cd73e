"""Getting at the root key with a passphrase: which keyslots are tried, how often, and on which thread.

- One passphrase is worked on at a time (``turn``), in a thread: the agent serves on meanwhile, and Argon2's
  memory stays bounded. What it reads and writes is locked memory, and the thread is left without residue.
- An attempt is charged before anything is derived, at each keyslot that it is made at.
- What the keyslots cost is bounded before any memory is taken: each by what is free, all that one attempt may
  try by ``MAX_TOGETHER``.
- A keyslot that is damaged, that must not be tried yet, or that there is no memory for, does not keep the
  others from opening.
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
    KeyholtError,
    RateLimitedError,
    ResourceExhaustedError,
    TooLargeError,
    UnlockFailedError,
)
from keyholt_protocol.limits import MAX_PASSPHRASE, PASSPHRASE_LENGTH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Iterable

    from keyholt_agent.clocks import Clock
    from keyholt_agent.keys.keyslots import Keyslot, KeyslotDraft
    from keyholt_agent.keys.recipients import Identity
    from keyholt_agent.keys.root_secret import RootSecret
    from keyholt_agent.memory import Arena
    from keyholt_agent.principal import Principal
    from keyholt_agent.store import SlotRow, SlotTable

__all__ = ["MAX_SLOTS", "Passphrases", "check_passphrase", "check_room_for", "two_passphrases"]

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


def check_room_for(new: kdf.Argon2Parameters, others: Iterable[SlotRow]) -> None:
    """Refuse a keyslot beside others with which ``unseal`` would refuse them all.

    Raises:
        TooLargeError: see the message.
    """
    if new.cost + sum(map(_cost, others)) > kdf.MAX_TOGETHER:
        raise TooLargeError(
            "the keyslots would cost more together than one unlock may try; remove one, or lower "
            "`unlock.kdf_target`",
            details={"field": "name", "limit": kdf.MAX_TOGETHER},
        )


def _check_together(rows: Iterable[SlotRow]) -> None:
    """Hold what keyslots cost together against what the agent lets them; damaged ones cost nothing.

    Raises:
        IntegrityError: it is more, so that it was not the agent who wrote them.
    """
    if sum(map(_cost, rows)) > kdf.MAX_TOGETHER:
        raise IntegrityError(
            "trying all keyslots would cost more than the agent lets them: they were changed outside of it; "
            "name the one to unlock with (`--slot`), or restore a backup"
        )


def _cost(row: SlotRow) -> int:
    try:
        return _costs(decode_slot(row)).cost
    except IntegrityError:
        return 0


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
            RateLimitedError: it opens none of those that it may be tried at now, after failures.
            ResourceExhaustedError: it opens none of those that there is memory for.
            IntegrityError: a candidate is damaged, or all together cost more than the agent gives keyslots.
        """
        check_passphrase(passphrase)
        rows = tuple(islice(candidates, MAX_SLOTS))
        if len(rows) > 1:
            _check_together(rows)
        available = await run_in_thread(self._free_memory)
        attempt = _Attempt(self._throttle, principal.quota, table)
        for row in rows:
            try:
                slot = decode_slot(row)
                kdf.require_memory(_costs(slot), available)
                attempt.at(slot.slot_id, self._clock())
                root = await self._open(passphrase, table.store_id, slot, row)
            except _REFUSALS as refusal:
                attempt.refused(refusal, self._clock())
                continue
            attempt.succeeded(slot.slot_id)
            return slot.name, root
        if attempt.failed:
            _log.warning("a passphrase from %s opened no keyslot", principal.name)
        raise attempt.outcome

    async def derive(self, slot: KeyslotDraft, passphrase: memoryview) -> Identity:
        """The identity of a keyslot, the caller's to release; errors as of ``derive_identity``.

        It takes as much memory as the keyslot says: ask ``kdf.require_memory`` before.
        """
        return await run_in_thread(derive_identity, self._arena, slot, PassphraseSource(passphrase))

    async def calibrated(self) -> kdf.Argon2Parameters:
        """Argon2id parameters that take about as long as configured, on this machine, now.

        Raises:
            ResourceExhaustedError: there is no memory even for the least.
        """
        return await run_in_thread(self._calibrate)

    def _calibrate(self) -> kdf.Argon2Parameters:
        available = self._free_memory()
        kdf.require_memory(kdf.FLOOR, available)
        return kdf.calibrate(self._target, self._stopwatch, available)

    async def _open(self, passphrase: memoryview, store_id: bytes, slot: Keyslot, row: SlotRow) -> RootSecret:
        """The root key out of a slot, whose header is authentic once it has opened."""
        with await self.derive(slot, passphrase) as identity:
            stored = StoredKeyslot(header=row.header, wrapped_root=row.wrapped_root)
            return open_slot(self._arena, stored, identity, store_id)


class _Attempt:
    """One passphrase on its way along the keyslots.

    Attributes:
        failed: the ids of those at which it was tried in vain.
    """

    def __init__(self, throttle: UnlockThrottle, quota: Hashable, table: SlotTable) -> None:
        self.failed: Final[list[bytes]] = []
        self._throttle: Final = throttle
        self._quota: Final = quota
        self._at: bytes | None = None  # where it is being tried, and is charged
        self._untried: RateLimitedError | ResourceExhaustedError | None = None
        self._damage: IntegrityError | None = None
        throttle.keep(quota, {slot_id for row in table.slots if (slot_id := _slot_id(row)) is not None})

    @property
    def outcome(self) -> KeyholtError:
        """What is told if it opened none. It is called wrong only where it was tried at every one."""
        return self._untried or self._damage or UnlockFailedError()

    def at(self, slot_id: bytes, now: float) -> None:
        """It is about to be tried there.

        Raises:
            RateLimitedError: it must not be yet.
        """
        self._throttle.charge(self._quota, slot_id, now)
        self._at = slot_id

    def refused(self, refusal: KeyholtError, now: float) -> None:
        """It did not open the keyslot that it came to."""
        if self._at is not None:
            self._throttle.failed(self._quota, self._at, now)
            self.failed.append(self._at)
            self._at = None
        if isinstance(refusal, (RateLimitedError, ResourceExhaustedError)):
            self._untried = refusal
        elif isinstance(refusal, IntegrityError):
            self._damage = refusal

    def succeeded(self, slot_id: bytes) -> None:
        """It opened the one that it was tried at."""
        self._throttle.succeeded(self._quota, slot_id, self.failed)


_REFUSALS: Final = (UnlockFailedError, IntegrityError, RateLimitedError, ResourceExhaustedError)
"""What one keyslot may say, and the next be tried all the same."""


def _costs(slot: Keyslot) -> kdf.Argon2Parameters:
    return kdf.Argon2Parameters.decode(slot.parameters)[0]


def _slot_id(row: SlotRow) -> bytes | None:
    try:
        return decode_slot(row).slot_id
    except IntegrityError:
        return None
