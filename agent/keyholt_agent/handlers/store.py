"""``store``: the making of the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keyholt_agent.keys.envelope import ID_SIZE
from keyholt_agent.keys.keyring import Founding
from keyholt_agent.keys.slots import Keyslot, passphrase_slot
from keyholt_agent.pipeline import Call, Reply
from keyholt_agent.rows import master_key_row, slot_row
from keyholt_agent.store import StoreSeed
from keyholt_agent.unsealing import calibrated_parameters, check_passphrase, derive_in_thread
from keyholt_protocol.errors import AlreadyExistsError
from keyholt_protocol.messages import StoreInitRequest, StoreInitResult

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["init"]


async def init(services: Services, call: Call[StoreInitRequest]) -> Reply[StoreInitResult]:
    """Create the store with one passphrase keyslot and one master key, and leave the agent unlocked."""
    passphrase = check_passphrase(call.body)
    async with services.key_change(call.principal):
        if services.initialised:
            raise AlreadyExistsError(
                f"there is a store already, {services.store_path}; `keyholt unlock` opens it"
            )
        store_id = os.urandom(ID_SIZE)
        parameters = await calibrated_parameters(services)
        slot = passphrase_slot(call.request.slot, services.now(), parameters)
        with await derive_in_thread(services, slot, passphrase) as key:
            founding = services.keyring.found(store_id, slot, key.view)
        try:
            await services.store.create(_seed(store_id, slot, founding))
        except BaseException:
            services.lock()
            raise
        services.store_id = store_id.hex()
        services.unlocked()
    return Reply(result=StoreInitResult(store_id=store_id.hex(), slot=slot.name, kdf=slot.describe()))


def _seed(store_id: bytes, slot: Keyslot, founding: Founding) -> StoreSeed:
    return StoreSeed(
        store_id=store_id,
        created=slot.created,
        slots=(slot_row(slot, founding.slot),),
        slot_table_mac=founding.table_mac,
        master_key=master_key_row(founding.master, slot.created),
    )
