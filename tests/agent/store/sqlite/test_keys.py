"""What the store's methods on keyslots and master keys do, on a real file."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CountWraps,
    CreateStore,
    KeyState,
    PutSecret,
    ReadMasterKeys,
    ReadSlotTable,
    SlotTableMovedError,
    Store,
    WrapLimitError,
    open_store,
)
from keyholt_protocol.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    StoreUnavailableError,
    UninitialisedError,
)
from tests.agent.store.builders import MASTER, Keeper, head, master, opened, seed, slot, version


async def test_a_new_store_has_what_it_was_given(tmp_path: Path) -> None:
    """Before ``create`` everything is refused as uninitialised, after it the seed is there, for good."""
    planted = seed()
    async with open_store(tmp_path / "state") as store:
        assert not store.initialised
        with pytest.raises(UninitialisedError):
            await store.read_secret("a", None)
        await store.ask(CreateStore(seed=planted, keeper=Keeper()))
        assert store.initialised
        await store.ask(PutSecret(path="a", new=version(1)))
    async with opened(tmp_path / "state") as store:
        assert store.initialised
        table = await store.ask(ReadSlotTable())
        assert (table.store_id, table.mac) == (planted.store_id, planted.slot_table_mac)
        assert table.slots == planted.slots
        assert await store.ask(ReadMasterKeys()) == [planted.master_key]
        assert (await store.read_secret("a", None)).version == 1


async def test_a_store_is_never_created_over_another(store: Store) -> None:
    """A second ``create`` is refused and changes nothing."""
    before = await store.ask(ReadSlotTable())
    with pytest.raises(AlreadyExistsError):
        await store.ask(CreateStore(seed=seed(), keeper=Keeper()))
    assert await store.ask(ReadSlotTable()) == before


async def test_a_slot_is_added_behind_all_others(store: Store) -> None:
    """Slots keep the order that they came in, whatever their names."""
    slots = list((await store.ask(ReadSlotTable())).slots)
    for number, name in enumerate(("zeta", "alpha")):
        slots.append(slot(name))
        macs = {"mac": b"mac %d" % (number + 1), "expected_mac": b"mac %d" % number}
        await store.ask(AddKeyslot(slot=slots[-1], **macs))
    table = await store.ask(ReadSlotTable())
    assert table.slots == tuple(slots)
    assert table.mac == b"mac 2"


async def test_a_slot_table_worked_out_from_an_older_one_is_refused(store: Store) -> None:
    """Two changes at once: the second would drop the first's slot and its MAC would not fit."""
    table = await store.ask(ReadSlotTable())
    await store.ask(AddKeyslot(slot=slot("one"), mac=b"mac 1", expected_mac=table.mac))
    with pytest.raises(SlotTableMovedError):
        await store.ask(AddKeyslot(slot=slot("two"), mac=b"mac 2", expected_mac=table.mac))
    assert [entry.name for entry in (await store.ask(ReadSlotTable())).slots] == ["passphrase", "one"]


async def test_wraps_are_reserved_up_to_the_limit_and_no_further(store: Store) -> None:
    """A reservation that would pass the limit is refused and counts nothing."""
    await store.ask(CountWraps(key_id=MASTER, version=1, count=600, limit=1000))
    with pytest.raises(WrapLimitError):
        await store.ask(CountWraps(key_id=MASTER, version=1, count=401, limit=1000))
    await store.ask(CountWraps(key_id=MASTER, version=1, count=400, limit=1000))
    assert [row.wraps_reserved for row in await store.ask(ReadMasterKeys())] == [1000]
    with pytest.raises(NotFoundError):
        await store.ask(CountWraps(key_id=MASTER, version=2, count=1, limit=1000))


async def test_concurrent_reservations_never_pass_the_limit(store: Store) -> None:
    """Many callers at once share the limit exactly."""
    refused = 0

    async def reserve() -> None:
        nonlocal refused
        try:
            await store.ask(CountWraps(key_id=MASTER, version=1, count=7, limit=100))
        except WrapLimitError:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(reserve)
    assert refused == 20 - 100 // 7
    assert [row.wraps_reserved for row in await store.ask(ReadMasterKeys())] == [98]


async def test_a_new_master_version_retires_the_old_one(store: Store) -> None:
    """Both happen together; the old version takes no wraps after it."""
    await store.ask(AddMasterVersion(row=(row := master(2)), retire=(MASTER, 1)))
    assert [(key.version, key.state) for key in await store.ask(ReadMasterKeys())] == [
        (1, KeyState.DECRYPT_ONLY),
        (2, KeyState.ACTIVE),
    ]
    assert (await store.ask(ReadMasterKeys()))[1] == row
    with pytest.raises(ConflictError, match="decrypt_only"):
        await store.ask(CountWraps(key_id=MASTER, version=1, count=1, limit=1000))


async def test_of_two_rotations_at_once_one_wins(store: Store) -> None:
    """Retiring a version that is no longer active is a conflict, and nothing is inserted."""
    await store.ask(AddMasterVersion(row=master(2), retire=(MASTER, 1)))
    with pytest.raises(ConflictError):
        await store.ask(AddMasterVersion(row=master(3), retire=(MASTER, 1)))
    with pytest.raises(AlreadyExistsError):
        await store.ask(AddMasterVersion(row=master(2), retire=(MASTER, 2)))
    assert [(key.version, key.state) for key in await store.ask(ReadMasterKeys())] == [
        (1, KeyState.DECRYPT_ONLY),
        (2, KeyState.ACTIVE),
    ]


async def test_a_master_key_s_name_belongs_to_one_key(store: Store) -> None:
    """Another key id under a name that is taken is refused."""
    with pytest.raises(AlreadyExistsError):
        await store.ask(AddMasterVersion(row=master(1, key_id=b"another key's id")))
    await store.ask(AddMasterVersion(row=master(1, key_id=b"another key's id", name="payments")))
    assert [key.name for key in await store.ask(ReadMasterKeys())] == ["default", "payments"]


async def test_a_closed_store_takes_nothing(state: Path) -> None:
    """Calls after the end are refused, not left waiting."""
    async with open_store(state) as store:
        pass
    with pytest.raises(StoreUnavailableError, match="shutting down"):
        await head(store, "a")
