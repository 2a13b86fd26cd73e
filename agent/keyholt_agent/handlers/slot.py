"""``slot``: the keyslots. Each change is one transaction of the whole table with its MAC.

- Who changes the table shows a passphrase that opens a keyslot which stays (or, to change a passphrase, the
  old one): being connected to an unlocked agent is not enough to keep access, or to take it away from its
  owner.
- The table is held against its MAC before a passphrase is tried on it: otherwise whoever can write the file
  could bring a keyslot of their own, and be given the root key for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.keys.slots import passphrase_slot
from keyholt_agent.pipeline import Call, Reply
from keyholt_agent.rows import decode_slot, sealed_slots, slot_row
from keyholt_agent.store import SlotRow, SlotTable
from keyholt_agent.unsealing import (
    MAX_SLOTS,
    calibrated_parameters,
    check_passphrase,
    derive_in_thread,
    find_slot,
    unseal,
)
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, TooLargeError
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
    from collections.abc import Sequence

    from keyholt_agent.services import Services

__all__ = ["add", "list_slots", "remove"]


async def list_slots(services: Services, call: Call[SlotListRequest]) -> Reply[SlotListResult]:
    """List the keyslots, in the order in which they are tried."""
    table = await services.store.slot_table()
    return Reply(result=SlotListResult(slots=tuple(_info(row) for row in table.slots)))


async def add(services: Services, call: Call[SlotAddRequest]) -> Reply[SlotAddResult]:
    """Wrap the root key for one more passphrase, or for another one in the place of an old one."""
    request = call.request
    existing = call.body[: request.existing_size]
    new = check_passphrase(call.body[request.existing_size :])
    async with services.key_change(call.principal):
        table = await _verified_table(services)
        candidates, others = _placed(table, request.name, replace=request.replace)
        _, root = await unseal(services, call.principal, existing, table, candidates)
        root.release()  # that it opened is what counts; the keyring holds the same one
        slot = passphrase_slot(request.name, services.now(), await calibrated_parameters(services))
        with await derive_in_thread(services, slot, new) as key:
            row = slot_row(slot, services.keyring.seal_slot(slot, key.view))
        await _replace_table(services, table, (*others, row))
    return Reply(result=SlotAddResult(name=slot.name, kdf=slot.describe()))


async def remove(services: Services, call: Call[SlotRemoveRequest]) -> Reply[SlotRemoveResult]:
    """Take a keyslot out of the table; its wrapped root key is overwritten."""
    name = call.request.name
    async with services.key_change(call.principal):
        table = await _verified_table(services)
        find_slot(table, name)
        others = tuple(row for row in table.slots if row.name != name)
        if not others:
            raise ConflictError(
                f"{name!r} is the last keyslot; without it nobody could ever unlock the store"
            )
        _, root = await unseal(services, call.principal, call.body, table, others)
        root.release()
        await _replace_table(services, table, others)
    return Reply(result=SlotRemoveResult(name=name))


def _info(row: SlotRow) -> SlotInfo:
    slot = decode_slot(row)
    return SlotInfo(name=slot.name, kind=slot.kind.name.lower(), created=slot.created, kdf=slot.describe())


async def _verified_table(services: Services) -> SlotTable:
    table = await services.store.slot_table()
    services.keyring.verify_table(sealed_slots(table.slots), table.mac)
    for row in table.slots:
        decode_slot(row)
    return table


def _placed(table: SlotTable, name: str, *, replace: bool) -> tuple[Sequence[SlotRow], Sequence[SlotRow]]:
    """The keyslots of which one must open before ``name`` may be written, and those that stay beside it."""
    if replace:
        return (find_slot(table, name),), [row for row in table.slots if row.name != name]
    if any(row.name == name for row in table.slots):
        raise AlreadyExistsError(f"there is a keyslot {name!r} already; change it, or choose another name")
    if len(table.slots) >= MAX_SLOTS:
        raise TooLargeError(
            f"the store has {MAX_SLOTS} keyslots, the most there can be; remove one first",
            details={"field": "name", "limit": MAX_SLOTS},
        )
    return table.slots, table.slots


async def _replace_table(services: Services, before: SlotTable, rows: Sequence[SlotRow]) -> None:
    mac = services.keyring.table_mac(sealed_slots(rows))
    await services.store.replace_slot_table(slots=rows, mac=mac, expected_mac=before.mac)
