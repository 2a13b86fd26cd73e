"""The sealed state while a store is open: what is changed behind it is found; no keys, no writes."""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CountWraps,
    Cover,
    CreateStore,
    DeleteSecret,
    DestroyVersion,
    Head,
    PutSecret,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    RetireMasterVersion,
    UndeleteSecret,
    open_store,
)
from keyholt_agent.store.sqlite.database import Database
from keyholt_protocol.errors import IntegrityError, KeyholtError, LockedError, StoreUnavailableError
from tests.agent.store.builders import (
    CREATED,
    MASTER,
    Keeper,
    head,
    master,
    new_root,
    opened,
    rekey,
    running,
    seed,
    slot,
    unseal,
    unsealed,
    version,
)
from tests.agent.store.sqlite.behind import everything, put_back, query, sealed_record

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from keyholt_agent.store.commands import AnyCommand
    from keyholt_agent.store.sqlite.backend import SqliteBackend

PATIENCE = 20.0
"""Seconds for a thread that has to come."""


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """A backend that takes writes; ``a`` is there, ``b`` is deleted."""
    with unsealed(state) as backend:
        for path in "ab":
            backend.run([PutSecret(path=path, new=version(1))])[0].unwrap()
        backend.run([DeleteSecret(path="b", deleted_at=CREATED)])[0].unwrap()
        yield backend


# What is found while the store is open.


def test_a_record_that_was_changed_stops_writes(backend: SqliteBackend) -> None:
    """Whichever byte of it; nothing is written over it, reads go on, and put right all is well."""
    record = sealed_record(backend)
    for place in range(len(record)):
        forged = bytearray(record)
        forged[place] ^= 1
        query(backend, "UPDATE store_meta SET sealed_state = ?", (bytes(forged),))
        before = everything(backend)
        with pytest.raises(IntegrityError):
            backend.run([PutSecret(path="a", new=version(2))])[0].unwrap()
        assert everything(backend) == before
    assert backend.run([ReadHistory(path="a", before=None, limit=1)])[0].unwrap()[0].latest == 1
    assert not backend.faulty
    query(backend, "UPDATE store_meta SET sealed_state = ?", (record,))
    backend.run([PutSecret(path="a", new=version(2))])[0].unwrap()
    unseal(backend)


def test_a_store_set_back_while_it_is_open_takes_no_writes(backend: SqliteBackend) -> None:
    """Rows and record together, so that all adds up: the count of commits tells."""
    before = everything(backend)
    backend.run([DeleteSecret(path="a", deleted_at=CREATED)])[0].unwrap()
    put_back(backend, before)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="set back while"):
            backend.run([PutSecret(path="a", new=version(2))])[0].unwrap()
    assert everything(backend) == before


@pytest.mark.parametrize("written", [True, False])
def test_a_failed_commit_is_built_upon_if_it_was_written(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Nobody was told of it, nobody knows; the next write goes on from what the store has."""
    real = Database.transaction

    @contextmanager
    def failing(database: Database) -> Iterator[sqlite3.Connection]:
        with suppress(ZeroDivisionError), real(database) as connection:
            yield connection
            if not written:
                raise ZeroDivisionError
        raise OSError(errno.EIO, "planted")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", failing)
        outcome = backend.run([PutSecret(path="a", new=version(2))])[0]
    with pytest.raises(StoreUnavailableError):
        outcome.unwrap()
    latest = backend.run([ReadHistory(path="a", before=None, limit=1)])[0].unwrap()[0].latest
    assert latest == (2 if written else 1)
    backend.run([PutSecret(path="a", new=version(latest + 1))])[0].unwrap()
    unseal(backend)


def test_a_store_set_back_while_it_was_locked_is_not_unlocked(backend: SqliteBackend) -> None:
    """The agent has had it open all the while, though with no keys, or with others of the same root."""
    before = everything(backend)
    backend.run([DeleteSecret(path="a", deleted_at=CREATED)])[0].unwrap()
    put_back(backend, before)
    with pytest.raises(IntegrityError, match="set back while"):
        unseal(backend, Keeper())


def test_a_row_changed_while_the_store_is_open_is_found_by_the_next_unlock(backend: SqliteBackend) -> None:
    """However much was written since: a commit carries the difference on, and never sums anew."""
    query(backend, "UPDATE secret SET deleted_at = NULL WHERE path = 'b'")
    for number in (2, 3):
        backend.run([PutSecret(path="a", new=version(number))])[0].unwrap()
    with pytest.raises(IntegrityError, match="not as the agent left it"):
        unseal(backend)


@pytest.mark.parametrize(
    "forgery, command",
    [
        ("UPDATE secret SET deleted_at = 'x' WHERE path = 'b'", PutSecret(path="b", new=version(2))),
        ("UPDATE secret SET deleted_at = 'x' WHERE path = 'b'", UndeleteSecret(path="b")),
        ("UPDATE secret SET latest = 1.5 WHERE path = 'a'", DeleteSecret(path="a", deleted_at=CREATED)),
        ("UPDATE secret_version SET created = 'x' WHERE id = 1", DestroyVersion(path="a", version=1)),
        ("UPDATE master_key SET created = 1.5", CountWraps(key_id=MASTER, version=1, count=1, limit=9)),
        ("UPDATE master_key SET created = 1.5", AddMasterVersion(row=master(2), retire=(MASTER, 1))),
        (
            "UPDATE store_meta SET created = 1.5",
            AddKeyslot(slot=slot("other"), mac=b"mac 1", expected_mac=b"mac 0"),
        ),
    ],
)
def test_a_row_forged_while_the_store_is_open_is_refused_unwritten(
    backend: SqliteBackend, forgery: str, command: AnyCommand
) -> None:
    """It has no element to take away; what is written beside it is committed, and nothing of the refused."""
    query(backend, forgery)
    before = everything(backend)
    refused, written = backend.run([command, PutSecret(path="c", new=version(1))])
    with pytest.raises(IntegrityError):
        refused.unwrap()
    written.unwrap()
    assert not backend.faulty
    after = everything(backend)
    sealed = "sealed_state"
    assert [row | {sealed: None} for row in before["store_meta"]] == [
        row | {sealed: None} for row in after["store_meta"]
    ]
    assert all(row in after[table] for table in before for row in before[table] if sealed not in row)
    assert sum(map(len, after.values())) == sum(map(len, before.values())) + 3


def test_what_was_changed_behind_the_store_is_not_made_good_by_other_keys(backend: SqliteBackend) -> None:
    """Keys that come into force add all rows up anew: they have to be those that the old keys sealed."""
    query(backend, "UPDATE secret SET deleted_at = NULL WHERE path = 'b'")
    keeper = Keeper(b"keys of a new root")
    with pytest.raises(IntegrityError):
        rekey(backend, keeper, slot())
    with pytest.raises(IntegrityError):
        unseal(backend, keeper)


@pytest.mark.parametrize("table", ["keyslot", "master_key", "store_meta"])
def test_nor_are_the_small_tables(backend: SqliteBackend, table: str) -> None:
    """Which are written anew with a new root, from rows that were not added up again."""
    query(backend, f"UPDATE {table} SET created = created + 1")
    with pytest.raises(IntegrityError):
        rekey(backend, Keeper(b"keys of a new root"), slot())


# Who has the keys.


def test_a_store_that_was_only_opened_takes_no_writes(state: Path) -> None:
    """None of any kind, nor keys of a new root; it is read, and takes them once it is unsealed."""
    with unsealed(state) as backend:
        backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
    with running(state) as backend:
        before = everything(backend)
        table, masters = (outcome.unwrap() for outcome in backend.run([ReadSlotTable(), ReadMasterKeys()]))
        put = PutSecret(path="a", new=version(2))
        for command in (
            put,
            DeleteSecret(path="a", deleted_at=CREATED),
            DestroyVersion(path="a", version=1),
            CountWraps(key_id=MASTER, version=1, count=1, limit=1000),
            AddKeyslot(slot=slot("other"), mac=b"mac 1", expected_mac=table.mac),
            RetireMasterVersion(key_id=MASTER, version=1),
            Cover(keeper=Keeper(), most=1),
            new_root(Keeper(), table, masters, [slot()]),
        ):
            with pytest.raises(LockedError):
                backend.run([command])[0].unwrap()
        assert everything(backend) == before
        unseal(backend)
        backend.run([put])[0].unwrap()


def test_keys_that_were_given_up_are_in_force_no_more(backend: SqliteBackend) -> None:
    """Nothing is written after it, nor can they be put in force; others can."""
    keeper = Keeper()
    unseal(backend, keeper)
    backend.run([PutSecret(path="a", new=version(2))])[0].unwrap()
    keeper.give_up()
    before = everything(backend)
    for outcome in backend.run([PutSecret(path="a", new=version(3)), DestroyVersion(path="a", version=1)]):
        with pytest.raises(LockedError):
            outcome.unwrap()
    with pytest.raises(LockedError):
        unseal(backend, keeper)
    assert everything(backend) == before
    assert not backend.faulty
    unseal(backend, Keeper())
    backend.run([PutSecret(path="a", new=version(3))])[0].unwrap()


def test_a_store_is_not_made_with_keys_that_were_given_up(tmp_path: Path) -> None:
    """Nothing is left of the attempt."""
    keeper = Keeper()
    keeper.give_up()
    with running(tmp_path) as backend:
        with pytest.raises(LockedError):
            backend.run([CreateStore(seed=seed(), keeper=keeper)])[0].unwrap()
        assert {path.name for path in tmp_path.iterdir()} == {"store.lock"}
        backend.run([CreateStore(seed=seed(), keeper=Keeper())])[0].unwrap()


class Halting(Keeper):
    """Stands still, once, at the first element that it is asked for after ``armed``."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False
        self.standing, self.go_on = threading.Event(), threading.Event()

    def element(self, row: bytes) -> int:
        if self.armed:
            self.armed = False
            self.standing.set()
            assert self.go_on.wait(PATIENCE)
        return super().element(row)


async def given_up_within(state: Path, batch: Sequence[AnyCommand]) -> tuple[Halting, list[str]]:
    """Give the keys up while a batch is under way, and ask for one more write; what became of each."""
    keeper = Halting()
    became: list[str] = []

    async def ask(command: AnyCommand) -> None:
        try:
            await store.ask(command)
        except KeyholtError as error:
            became.append(type(error).__name__)
        else:
            became.append("written")

    async with open_store(state) as store:
        await store.unseal(keeper)
        keeper.armed = True
        async with trio.open_nursery() as nursery:
            for command in batch:
                nursery.start_soon(ask, command)
            assert await trio.to_thread.run_sync(keeper.standing.wait, PATIENCE)
            keeper.give_up()
            assert keeper.users == 1
            nursery.start_soon(ask, PutSecret(path="late", new=version(1)))
            await trio.testing.wait_all_tasks_blocked()
            keeper.go_on.set()
    return keeper, became


async def test_a_commit_under_way_is_whole_and_the_last(state: Path) -> None:
    """Who locks meanwhile waits for it: its commands are written, and nothing that came after."""
    puts = [PutSecret(path=path, new=version(1)) for path in "abc"]
    keeper, became = await given_up_within(state, puts)
    # Which of them were taken into the batch is the thread's affair; all of that were written together.
    assert sorted(set(became)) == ["LockedError", "written"]
    assert keeper.users == 0
    async with opened(state) as store:
        there = [
            (await head(store, path)) != Head(latest=0, deleted_at=None) for path in ("a", "b", "c", "late")
        ]
    assert sum(there) == became.count("written")
    assert not there[-1]


async def test_a_check_under_way_ends_with_the_keys(state: Path) -> None:
    """Who locks while all rows are added up is not kept waiting for all of them, and nothing is in force."""
    keeper = Halting()
    failed: list[str] = []

    async def unlock() -> None:
        try:
            await store.unseal(keeper)
        except LockedError:
            failed.append("locked")

    keeper.armed = True
    async with open_store(state) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unlock)
            assert await trio.to_thread.run_sync(keeper.standing.wait, PATIENCE)
            keeper.give_up()
            keeper.go_on.set()
        assert failed == ["locked"]
        assert keeper.users == 0
        with pytest.raises(LockedError):
            await store.ask(PutSecret(path="a", new=version(1)))
