"""``slot``: the keyslots, and who may change them: see ``vault.keyslots``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from keyholt_agent.pipeline import AnyBinding, Call, Reply, bind
from keyholt_agent.vault.passphrases import two_passphrases
from keyholt_protocol import operations as ops
from keyholt_protocol.messages import (
    SlotAddRequest,
    SlotAddResult,
    SlotInfo,
    SlotListRequest,
    SlotListResult,
    SlotRemoveRequest,
    SlotRemoveResult,
)

if TYPE_CHECKING:
    from keyholt_agent.keys.keyslots import Keyslot
    from keyholt_agent.services import Services
    from keyholt_agent.vault.keyslots import Keyslots

__all__ = ["add", "bindings", "list_slots", "remove"]

_log: Final = logging.getLogger("keyholt.slot")


def bindings(services: Services) -> tuple[AnyBinding, ...]:
    """The handlers of this domain's operations, each with the part of the agent that it works with."""
    return (
        bind(ops.SLOT_LIST, list_slots, services.keyslots),
        bind(ops.SLOT_ADD, add, services.keyslots),
        bind(ops.SLOT_REMOVE, remove, services.keyslots),
    )


async def list_slots(keyslots: Keyslots, call: Call[SlotListRequest]) -> Reply[SlotListResult]:
    """List the keyslots, in the order in which they are tried."""
    return Reply(result=SlotListResult(slots=tuple(_info(slot) for slot in await keyslots.list())))


async def add(keyslots: Keyslots, call: Call[SlotAddRequest]) -> Reply[SlotAddResult]:
    """Wrap the root key for one more passphrase, or for another one in the place of an old one."""
    request = call.request
    existing, new = two_passphrases(call.body)
    change = keyslots.change if request.replace else keyslots.add
    slot = await change(call.principal, request.name, existing, new)
    done = "changed" if request.replace else "added"
    _log.info("%s keyslot %s by %s", done, slot.name, call.principal.name)
    return Reply(result=SlotAddResult(name=slot.name, kdf=slot.describe()))


async def remove(keyslots: Keyslots, call: Call[SlotRemoveRequest]) -> Reply[SlotRemoveResult]:
    """Take a keyslot out of the table; its wrapped root key is overwritten."""
    await keyslots.remove(call.principal, call.request.name, call.body)
    _log.info("removed keyslot %s by %s", call.request.name, call.principal.name)
    return Reply(result=SlotRemoveResult(name=call.request.name))


def _info(slot: Keyslot) -> SlotInfo:
    return SlotInfo(name=slot.name, kind=slot.kind.name.lower(), created=slot.created, kdf=slot.describe())
