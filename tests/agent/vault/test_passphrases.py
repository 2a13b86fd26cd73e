"""What keyslots cost: held against the memory there is, and against a sum, before any of it is spent."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_agent.keys import kdf
from keyholt_agent.keys.kdf import FLOOR, MAX_MEMORY, MAX_TOGETHER, Argon2Parameters
from keyholt_agent.keys.keyslots import Keyslot, passphrase_slot
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.store import ReadMasterKeys, ReadSlotTable, SlotRow
from keyholt_agent.store.sqlite.columns import COLUMNS
from tests.support.agent_process import PASSPHRASE
from tests.support.inside import of_uid
from tests.support.intercepting import intercept
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    from keyholt_agent.store import SlotTable
    from tests.support.inside import Inside

MIB = 1024 * 1024
DERIVE = kdf.derive


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> list[Argon2Parameters]:
    """The costs of the derivations that are made."""
    made: list[Argon2Parameters] = []

    def derive(passphrase: memoryview, salt: bytes, costs: Argon2Parameters, target: memoryview) -> None:
        made.append(costs)
        DERIVE(passphrase, salt, costs, target)

    monkeypatch.setattr(kdf, "derive", derive)
    return made


def free(inside: Inside, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Have so many bytes of memory be available."""
    monkeypatch.setattr(inside.services.passphrases, "_free_memory", lambda: size)


def forged(name: str, costs: Argon2Parameters) -> SlotRow:
    """A keyslot that somebody wrote into the file."""
    draft = passphrase_slot(name, 1, costs, KERNEL)
    slot = Keyslot(**asdict(draft), public_key=bytes(32), confirmation=bytes(32))
    return SlotRow(name=name, kind="passphrase", header=slot.encode(), wrapped_root=bytes(90), created=1)


async def test_no_memory_is_taken_that_is_not_there(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, derivations: list[Argon2Parameters]
) -> None:
    """It is refused beforehand, by name, and costs no attempt; with the memory there it opens."""
    derivations.clear()
    peer = await derived.connect()
    free(derived, monkeypatch, 64 * MIB - 1)
    for _ in range(5):
        refused = await peer.call("agent.unlock", PASSPHRASE)
        assert refused.code == "resource_exhausted"
        assert "needs 64 MiB of memory, and 63 MiB are free" in refused.message
    added = await peer.call("slot.add", two_passphrases(PASSPHRASE, b"another"), name="second")
    assert added.code == "resource_exhausted"
    assert derivations == []
    free(derived, monkeypatch, 64 * MIB)
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    assert derivations == [FLOOR]


async def test_a_store_is_not_made_without_memory_for_its_keyslot(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, derivations: list[Argon2Parameters]
) -> None:
    """Nor is anything measured: that would take it already."""
    free(inside, monkeypatch, 64 * MIB - 1)
    monkeypatch.setattr(inside.services.vault, "check", lambda _: None)
    refused = await (await inside.connect()).call("store.init", PASSPHRASE)
    assert refused.code == "resource_exhausted"
    assert derivations == []


async def test_a_keyslot_too_large_keeps_no_other_from_opening(
    derived: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is memory for is tried; a passphrase that opens none of those is not called wrong."""
    ask = derived.services.store.ask

    async def with_a_large_one(asked: ReadSlotTable) -> SlotTable:
        table = await ask(asked)
        large = forged("large", Argon2Parameters(memory=MAX_MEMORY))
        return dataclasses.replace(table, slots=(large, *table.slots))

    intercept(monkeypatch, derived.services.store, ReadSlotTable, with_a_large_one)
    free(derived, monkeypatch, 1024 * MIB)
    peer = await derived.connect()
    for _ in range(3):
        assert (await peer.call("agent.unlock", b"wrong")).code == "resource_exhausted"
    other = await derived.connect(principal=of_uid(7))
    assert (await other.call("agent.unlock", PASSPHRASE)).code == "integrity"  # opened; the table is forged
    assert (await other.call("agent.unlock", PASSPHRASE, slot="large")).code == "resource_exhausted"


async def test_all_keyslots_together_are_bounded(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, derivations: list[Argon2Parameters]
) -> None:
    """Eight of the dearest, which nobody but the file's owner could have put there: none is tried."""
    ask = derived.services.store.ask

    async def with_dear_ones(asked: ReadSlotTable) -> SlotTable:
        table = await ask(asked)
        dear = [forged(f"dear {number}", Argon2Parameters(time=8, memory=MAX_MEMORY)) for number in range(8)]
        return dataclasses.replace(table, slots=(*dear, *table.slots))

    intercept(monkeypatch, derived.services.store, ReadSlotTable, with_dear_ones)
    derivations.clear()
    peer = await derived.connect()
    refused = await peer.call("agent.unlock", PASSPHRASE)
    assert refused.code == "integrity"
    assert "name the one to unlock with" in refused.message
    assert derivations == []
    await peer.call("agent.unlock", PASSPHRASE, slot="passphrase")
    assert derivations == [FLOOR]


async def test_no_keyslot_is_added_that_would_be_one_too_many(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, derivations: list[Argon2Parameters]
) -> None:
    """The bound holds for what the agent writes; who changes a keyslot takes the place of the old one."""
    monkeypatch.setattr(kdf, "MAX_TOGETHER", 2 * FLOOR.cost)
    peer = await derived.connect()
    args: dict[str, Any] = {"name": "second"}
    (await peer.call("slot.add", two_passphrases(PASSPHRASE, b"another"), **args)).expect()
    derivations.clear()
    refused = await peer.call("slot.add", two_passphrases(PASSPHRASE, b"third"), name="third")
    assert (refused.code, refused.details) == ("too_large", {"field": "name", "limit": 2 * FLOOR.cost})
    assert derivations == [FLOOR]  # the proof, and none for the new one
    (await peer.call("slot.add", two_passphrases(b"another", b"new"), replace=True, **args)).expect()


def test_as_many_as_a_store_can_have_are_within_the_bound() -> None:
    """Each calibrated to a second on a machine that does 4 GiB in that time."""
    second = Argon2Parameters(time=4, memory=1024 * 1024)
    assert 32 * second.cost <= MAX_TOGETHER


ODD: dict[type[Any], tuple[object, ...]] = {
    bytes: (b"", b"\0", bytes(16), b"KHKS" + bytes(60), bytes(64), bytes(5000)),
    int: (0, 1, 2, 2**31 - 1, 2**61),
    str: ("x", "passphrase", "\u202e", "a" * 64, "a" * 256),
}


def others(name: str, value: object) -> list[object]:
    """What the store may give in the place of a value: it looks at types and sizes, and at nothing within."""
    if isinstance(value, Enum):
        return list(type(value))
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, tuple):
        return [(), value * 2]
    column = COLUMNS[{"mac": "slot_table_mac"}.get(name, name)]
    choice: tuple[Any, ...] = ODD[type(value)]
    return [one for one in choice if column.least <= (one if type(one) is int else len(one)) <= column.most]


async def test_forged_rows_of_keys_are_never_a_defect(
    derived: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in a keyslot, in a master key, or beside them: the unlock is refused, or is none the
    worse.
    """
    store, ask = derived.services.store, derived.services.store.ask
    table, masters = await ask(ReadSlotTable()), await ask(ReadMasterKeys())
    seen: dict[type[Any], Any] = {ReadSlotTable: table, ReadMasterKeys: masters}

    async def forged_answer(asked: ReadSlotTable | ReadMasterKeys) -> Any:
        return seen[type(asked)]

    intercept(monkeypatch, store, ReadSlotTable, forged_answer)
    intercept(monkeypatch, store, ReadMasterKeys, forged_answer)
    codes: set[str] = set()

    async def unlock() -> None:
        peer = await derived.connect(principal=of_uid(1000 + len(uids)))
        uids.append(1)
        codes.add((await peer.call("agent.unlock", PASSPHRASE)).code)
        codes.add((await peer.call("slot.list")).code)
        await peer.stream.aclose()

    uids: list[int] = []
    rows: tuple[tuple[Any, str], ...] = ((table, "table"), (table.slots[0], "slot"), (masters[0], "master"))
    for row, place in rows:
        for field in dataclasses.fields(row):
            value = getattr(row, field.name)
            for other in others(field.name, value):
                changed: Any = dataclasses.replace(row, **{field.name: other})
                seen[ReadSlotTable] = (
                    changed if place == "table" else dataclasses.replace(table, slots=(changed,))
                    if place == "slot" else table
                )  # fmt: skip
                seen[ReadMasterKeys] = [changed] if place == "master" else masters
                await unlock()
    assert codes <= {"", "integrity", "unlock_failed", "rate_limited"}
    assert "integrity" in codes
