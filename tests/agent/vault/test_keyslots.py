"""Keyslots: who shows a passphrase that stays may change the keyslots; nobody else, never the last one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.store import ReadSlotTable
from keyholt_agent.vault import keyslots
from keyholt_agent.vault.state import VaultState
from keyholt_agent.vault.stored_keys import slot_row, stored_slots
from tests.support.agent_process import PASSPHRASE
from tests.support.foreign_slot import foreign_slot
from tests.support.inside import of_uid
from tests.support.intercepting import intercept
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.services import Services
    from keyholt_agent.store import SlotRow, SlotTable
    from tests.support.inside import Inside, Peer

INTRUDER = b"the intruder's own"


async def add(peer: Peer, name: str, existing: bytes, new: bytes, *, replace: bool = False) -> str:
    """The code of the answer to ``slot.add``, empty for a success."""
    return (await peer.call("slot.add", two_passphrases(existing, new), name=name, replace=replace)).code


async def unlocks(inside: Inside, passphrase: bytes, slot: str | None = None) -> str:
    """What a locked agent answers to a passphrase, asked by a user who never failed before."""
    inside.services.vault.lock()
    unlocks.uid += 1  # type: ignore[attr-defined]
    peer = await inside.connect(principal=of_uid(unlocks.uid))  # type: ignore[attr-defined]
    args = {} if slot is None else {"slot": slot}
    return (await peer.call("agent.unlock", passphrase, **args)).code


unlocks.uid = 100  # type: ignore[attr-defined]


async def test_each_slot_opens_the_store(derived: Inside) -> None:
    """Added with one passphrase, opened with either; by name only with its own."""
    peer = await derived.connect()
    assert await add(peer, "second", PASSPHRASE, b"another") == ""
    assert await unlocks(derived, b"another") == ""
    assert await unlocks(derived, b"another", "passphrase") == "unlock_failed"
    assert await unlocks(derived, b"another", "none") == "not_found"
    assert await unlocks(derived, PASSPHRASE, "passphrase") == ""


async def test_change_of_a_passphrase(derived: Inside) -> None:
    """The old one of that very slot is needed, and opens nothing after."""
    peer = await derived.connect()
    assert await add(peer, "second", PASSPHRASE, b"another") == ""
    assert await add(peer, "passphrase", b"another", b"changed", replace=True) == "unlock_failed"
    assert await add(peer, "passphrase", PASSPHRASE, b"changed", replace=True) == ""
    assert await unlocks(derived, PASSPHRASE) == "unlock_failed"
    assert await unlocks(derived, b"changed") == ""
    assert await unlocks(derived, b"another") == ""


async def test_removal(derived: Inside) -> None:
    """Takes a passphrase of a slot that stays; what is removed opens nothing, and the last one stays."""
    peer = await derived.connect()
    assert await add(peer, "second", PASSPHRASE, b"another") == ""
    assert (await peer.call("slot.remove", PASSPHRASE, name="passphrase")).code == "unlock_failed"
    (await peer.call("slot.remove", b"another", name="passphrase")).expect()
    assert (await peer.call("slot.remove", b"another", name="second")).code == "conflict"
    assert (await peer.call("slot.remove", b"another", name="none")).code == "not_found"
    assert await unlocks(derived, PASSPHRASE) == "unlock_failed"
    assert await unlocks(derived, b"another") == ""


async def test_names_and_numbers(derived: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is taken, one to replace that is not there, one slot too many: refused, free of charge."""
    peer = await derived.connect()
    assert await add(peer, "passphrase", PASSPHRASE, b"another") == "already_exists"
    assert await add(peer, "none", PASSPHRASE, b"another", replace=True) == "not_found"
    monkeypatch.setattr(keyslots, "MAX_SLOTS", 1)
    assert await add(peer, "second", PASSPHRASE, b"another") == "too_large"
    assert await add(peer, "second", b"wrong", b"another") == "too_large"


PAYLOADS = {
    "nothing": (b"", "invalid_request"),
    "half a length": (b"\0\0", "invalid_request"),
    "a length alone": (b"\0\0\0\5", "invalid_request"),
    "one passphrase": (two_passphrases(PASSPHRASE, b""), "invalid_request"),
    "the new one alone": (two_passphrases(b"", b"new"), "invalid_request"),
    "a length beyond the end": (b"\xff\xff\xff\xff" + PASSPHRASE, "invalid_request"),
    "a length up to the end": (b"\0\0\x10\0" + b"x" * 4096, "invalid_request"),
    "no length": (PASSPHRASE + b"new", "invalid_request"),
    "first too long": (two_passphrases(b"x" * 4097, b"n"), "too_large"),
    "second too long": (two_passphrases(PASSPHRASE, b"n" * 4097), "too_large"),
    "both as long as can be": (two_passphrases(b"x" * 4096, b"n" * 4096), "unlock_failed"),
}


@pytest.mark.parametrize("kind", PAYLOADS)
async def test_two_passphrases_in_one_payload(derived: Inside, kind: str) -> None:
    """The length says where the first ends; what does not hold two is refused, and nothing is tried."""
    payload, code = PAYLOADS[kind]
    peer = await derived.connect()
    for _ in range(5 if code != "unlock_failed" else 1):  # more than wrong passphrases may be in a row
        reply = await peer.call("slot.add", payload, name="second")
        assert reply.code == code
        assert code == "unlock_failed" or reply.details["field"] == "payload"
    assert len((await peer.call("slot.list")).expect().result["slots"]) == 1


def foreign_row(services: Services, store_id: bytes) -> SlotRow:
    """A keyslot of an intruder, who knows its passphrase, around a key of theirs."""
    return slot_row(*foreign_slot(services.arena, "backup", INTRUDER, store_id))


def changed_header(table: SlotTable) -> SlotTable:
    """The table with one byte of its only header changed."""
    (row,) = table.slots
    return dataclasses.replace(table, slots=(dataclasses.replace(row, header=row.header[:-1] + b"\0"),))


@pytest.mark.parametrize("order", ["first", "last"])
async def test_table_with_a_foreign_slot(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Inserted in the file, it never gets the root key: nothing is done with a table without a valid MAC."""
    services, ask = derived.services, derived.services.store.ask
    table = await ask(ReadSlotTable())
    foreign = foreign_row(services, table.store_id)
    rows = (foreign, *table.slots) if order == "first" else (*table.slots, foreign)

    async def tampered(asked: ReadSlotTable) -> SlotTable:
        return dataclasses.replace(await ask(asked), slots=rows)

    intercept(monkeypatch, services.store, ReadSlotTable, tampered)
    peer = await derived.connect()
    for existing in (INTRUDER, PASSPHRASE):
        assert await add(peer, "new", existing, b"new") == "integrity"
        assert await add(peer, "backup", existing, b"new", replace=True) == "integrity"
        assert (await peer.call("slot.remove", existing, name="passphrase")).code == "integrity"
        assert (await peer.call("agent.unlock", existing)).code == "integrity"
    assert services.vault.state is VaultState.UNLOCKED  # what was in force stays so
    monkeypatch.undo()
    assert (await ask(ReadSlotTable())) == table
    assert services.vault.keyring.table_mac(stored_slots(table.slots)) == table.mac


@pytest.mark.parametrize("change", [changed_header, lambda table: dataclasses.replace(table, mac=bytes(32))])
async def test_table_that_was_changed(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, change: Callable[[SlotTable], SlotTable]
) -> None:
    """A header or the MAC itself: the same."""
    services, ask = derived.services, derived.services.store.ask

    async def tampered(asked: ReadSlotTable) -> SlotTable:
        return change(await ask(asked))

    intercept(monkeypatch, services.store, ReadSlotTable, tampered)
    peer = await derived.connect()
    assert await add(peer, "new", PASSPHRASE, b"new") == "integrity"
    assert (await peer.call("agent.unlock", PASSPHRASE)).code in {"integrity", "unlock_failed"}


@pytest.mark.parametrize("field, value", [("name", "swapped"), ("kind", "recovery"), ("created", 1)])
async def test_row_beside_a_header_that_was_changed(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    """The row is under no MAC, and who removes a keyslot goes by it: one of two whose names were swapped is
    neither removed nor listed.
    """
    services, ask = derived.services, derived.services.store.ask
    peer = await derived.connect()
    assert await add(peer, "second", PASSPHRASE, b"another") == ""
    before = await ask(ReadSlotTable())

    async def tampered(asked: ReadSlotTable) -> SlotTable:
        table = await ask(asked)
        first, second = (dataclasses.replace(row, **{field: value}) for row in table.slots)  # type: ignore[arg-type]
        if field == "name":
            first = dataclasses.replace(first, name="second")
            second = dataclasses.replace(second, name="passphrase")
        return dataclasses.replace(table, slots=(first, second))

    intercept(monkeypatch, services.store, ReadSlotTable, tampered)
    for name in ("passphrase", "second"):
        for passphrase in (PASSPHRASE, b"another"):
            assert (await peer.call("slot.remove", passphrase, name=name)).code == "integrity"
    assert await add(peer, "third", PASSPHRASE, b"new") == "integrity"
    assert (await peer.call("slot.list")).code == "integrity"
    assert await unlocks(derived, PASSPHRASE) == "integrity"
    monkeypatch.undo()
    assert await ask(ReadSlotTable()) == before
