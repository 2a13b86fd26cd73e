"""``store``: the making of the store, and of new keys for all of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from keyholt_agent.pipeline import AnyBinding, Call, Reply, bind
from keyholt_agent.store import CountRetiringKeys
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import AlreadyExistsError
from keyholt_protocol.messages import (
    StoreInitRequest,
    StoreInitResult,
    StoreRekeyRequest,
    StoreRekeyResult,
)

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["bindings", "init", "rekey"]

_log: Final = logging.getLogger("keyholt.unlock")


def bindings(services: Services) -> tuple[AnyBinding, ...]:
    """The handlers of this domain's operations, each with the part of the agent that it works with."""
    return (
        bind(ops.STORE_INIT, init, services),
        bind(ops.STORE_REKEY, rekey, services),
    )


async def init(services: Services, call: Call[StoreInitRequest]) -> Reply[StoreInitResult]:
    """Create the store with one passphrase keyslot and one master key, and leave the agent unlocked."""
    try:
        store_id, slot = await services.unlocking.create(call.principal, call.request.slot, call.body)
    except AlreadyExistsError:
        path = services.store_path
        raise AlreadyExistsError(f"there is a store already, {path}; `keyholt unlock` opens it") from None
    _log.info("created the store with keyslot %s by %s", slot.name, call.principal.name)
    return Reply(result=StoreInitResult(store_id=store_id.hex(), slot=slot.name, kdf=slot.describe()))


async def rekey(services: Services, call: Call[StoreRekeyRequest]) -> Reply[StoreRekeyResult]:
    """Make a new root key and new master keys, and begin to rewrap what those before have wrapped."""
    version = await services.keyslots.rekey(call.principal)
    _log.info("made version %d of the root key by %s", version, call.principal.name)
    to_rewrap = await services.store.ask(CountRetiringKeys())
    return Reply(result=StoreRekeyResult(root_version=version, to_rewrap=to_rewrap))
