"""``store``: the making of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.pipeline import Call, Reply
from keyholt_protocol.errors import AlreadyExistsError
from keyholt_protocol.messages import StoreInitRequest, StoreInitResult

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["init"]


async def init(services: Services, call: Call[StoreInitRequest]) -> Reply[StoreInitResult]:
    """Create the store with one passphrase keyslot and one master key, and leave the agent unlocked."""
    try:
        store_id, slot = await services.unlocking.create(call.principal, call.request.slot, call.body)
    except AlreadyExistsError:
        path = services.store_path
        raise AlreadyExistsError(f"there is a store already, {path}; `keyholt unlock` opens it") from None
    return Reply(result=StoreInitResult(store_id=store_id.hex(), slot=slot.name, kdf=slot.describe()))
