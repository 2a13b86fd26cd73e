"""Keeping a wrap of the active master key at hand, reserved in the store before it is used.

- Wraps are counted ahead, in blocks: a crash can only over-count (NIST SP 800-38D, section 8.3, bounds how
  often a key may be used with random nonces).
- A version that is used up is replaced at once, by whoever notices; nobody else needs to wait for an
  operator.
- The store may be ahead of the keyring: a change whose answer was lost, to a failure or to a peer that left,
  was committed all the same. It is caught up with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from keyholt_agent.keys.hierarchy import DEFAULT_MASTER, ReserveWraps, RotateMaster
from keyholt_agent.keys.states import KeyState
from keyholt_agent.rows import master_key_row
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, IntegrityError

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["ensure_wrap"]


async def ensure_wrap(services: Services) -> None:
    """Return once the keyring can wrap one data key; no checkpoint may come before it does.

    Raises:
        LockedError: the agent was locked meanwhile.
        StoreUnavailableError: the reservation cannot be committed.
    """
    while services.keyring.wrap_need() is not None:
        async with services.reserving:
            need = services.keyring.wrap_need()  # another task may have met it while this one waited
            # Shielded: wraps that were committed and not taken note of would be lost to everybody.
            with trio.CancelScope(shield=True):
                await _meet(services, need)


async def _meet(services: Services, need: ReserveWraps | RotateMaster | None) -> None:
    try:
        if isinstance(need, ReserveWraps):
            await _reserve(services, need)
        elif isinstance(need, RotateMaster):
            await _rotate(services, need)
    except (ConflictError, AlreadyExistsError):
        await _catch_up(services)
        if services.keyring.wrap_need() == need:  # and would be refused again, for ever
            sentence = "the store contradicts itself about its master key; restore a backup"
            raise IntegrityError(sentence) from None


async def _reserve(services: Services, need: ReserveWraps) -> None:
    await services.store.reserve_wraps(need.key_id, need.version, need.count, need.limit)
    services.keyring.wraps_granted(need)


async def _catch_up(services: Services) -> None:
    """Take over what the store says of the active master key: its version, and what is reserved of it."""
    rows = await services.store.master_keys()
    active = [row for row in rows if row.name == DEFAULT_MASTER and row.state is KeyState.ACTIVE]
    if len(active) != 1:
        raise IntegrityError("the store does not have exactly one active master key; restore a backup")
    services.keyring.add_master(active[0])


async def _rotate(services: Services, need: RotateMaster) -> None:
    master = services.keyring.next_master(need)
    row = master_key_row(master, services.now())
    await services.store.add_master_version(row, retire=(need.key_id, need.version))
    services.keyring.add_master(master)
