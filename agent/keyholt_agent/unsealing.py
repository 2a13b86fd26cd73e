"""Getting at the root key with a passphrase: which keyslots are tried, how often, and on which thread.

- Argon2 runs in a thread of its own limiter, one at a time (the caller holds ``Services.key_change``): the
  agent serves on meanwhile, and its memory stays bounded. What it reads and writes is locked memory.
- An attempt is admitted and charged before anything is derived.
- A damaged keyslot does not keep the others from opening.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.keys import kdf
from keyholt_agent.keys.slots import Keyslot, PassphraseSource, SealedKeyslot, derive_slot_key, open_slot
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.principal import Principal
from keyholt_agent.rows import decode_slot
from keyholt_protocol.errors import (
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnlockFailedError,
)
from keyholt_protocol.limits import MAX_PASSPHRASE

if TYPE_CHECKING:
    from keyholt_agent.services import Services
    from keyholt_agent.store import SlotRow, SlotTable

__all__ = [
    "MAX_SLOTS",
    "calibrated_parameters",
    "check_passphrase",
    "derive_in_thread",
    "find_slot",
    "unseal",
]

MAX_SLOTS: Final = 32
"""Keyslots of a store; every one may have to be tried, at about a second each."""

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


def find_slot(table: SlotTable, name: str) -> SlotRow:
    """The keyslot of that name.

    Raises:
        NotFoundError: there is none.
    """
    for row in table.slots:
        if row.name == name:
            return row
    raise NotFoundError(f"there is no keyslot {name!r}; `keyholt slot list` shows them")


async def unseal(
    services: Services,
    principal: Principal,
    passphrase: memoryview,
    table: SlotTable,
    candidates: Iterable[SlotRow],
) -> tuple[str, LockedBuffer]:
    """The name of the first candidate that the passphrase opens, and the root key, the caller's to release.

    Raises:
        UnlockFailedError: it opens none.
        RateLimitedError: too early after failures.
        IntegrityError: the only candidate is damaged.
    """
    check_passphrase(passphrase)
    services.throttle.check(principal.quota, trio.current_time())
    damage: IntegrityError | None = None
    for row in islice(candidates, MAX_SLOTS):
        try:
            name, root = await _open(services, passphrase, table.store_id, row)
        except UnlockFailedError:
            continue
        except IntegrityError as error:
            damage = error
            continue
        services.throttle.succeeded(principal.quota)
        return name, root
    services.throttle.failed(principal.quota, trio.current_time())
    _log.warning("a passphrase from %s opened no keyslot", principal.name)
    raise damage or UnlockFailedError


async def derive_in_thread(services: Services, slot: Keyslot, passphrase: memoryview) -> LockedBuffer:
    """The key of a keyslot, the caller's to release; errors as of ``derive_slot_key``."""
    source = PassphraseSource(passphrase)
    return await trio.to_thread.run_sync(
        derive_slot_key, services.arena, slot, source, limiter=services.derivations
    )


async def calibrated_parameters(services: Services) -> kdf.Argon2Parameters:
    """Argon2id parameters that take about as long as configured, on this machine, now."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    target = services.settings.unlock.kdf_target
    return await trio.to_thread.run_sync(
        kdf.calibrate, target, time.perf_counter, available, limiter=services.derivations
    )


async def _open(
    services: Services, passphrase: memoryview, store_id: bytes, row: SlotRow
) -> tuple[str, LockedBuffer]:
    """The name in the slot's header, authentic now that it has opened, and the root key."""
    slot = decode_slot(row)
    with await derive_in_thread(services, slot, passphrase) as key:
        sealed = SealedKeyslot(header=row.header, wrapped_root=row.wrapped_root)
        return slot.name, open_slot(services.arena, sealed, key.view, store_id)
