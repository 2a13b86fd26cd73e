"""Keeping a wrap of the active master key at hand, reserved in the store before it is used.

- Wraps are counted ahead, in blocks: a crash can only over-count (NIST SP 800-38D, section 8.3, bounds how
  often a key may be used with random nonces).
- A version that is used up is replaced at once, by whoever notices; nobody else needs to wait for an
  operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.keys.hierarchy import ReserveWraps, RotateMaster
from keyholt_agent.store import Custody, KeyState, MasterKeyRow

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
            if isinstance(need, ReserveWraps):
                await services.store.reserve_wraps(need.key_id, need.version, need.count, need.limit)
                services.keyring.wraps_granted(need)
            elif isinstance(need, RotateMaster):
                await _rotate(services, need)


async def _rotate(services: Services, need: RotateMaster) -> None:
    master = services.keyring.next_master(need)
    row = MasterKeyRow(
        key_id=master.key_id,
        name=master.name,
        version=master.version,
        state=KeyState.ACTIVE,
        custody=Custody.SOFTWARE,
        wrapped=master.wrapped,
        wraps_reserved=0,
        created=services.now(),
    )
    await services.store.add_master_version(row, retire=(need.key_id, need.version))
    services.keyring.add_master(master)
