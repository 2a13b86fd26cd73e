"""The store's rows come to what is sealed: after whatever is asked of it, and however they are added up."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from keyholt_agent.sealed_state import MODULUS
from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CountWraps,
    Cover,
    DeleteSecret,
    DestroyVersion,
    PutSecret,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    RetireMasterVersion,
    UndeleteSecret,
    open_store,
)
from keyholt_agent.store import store as store_module
from keyholt_agent.store.sqlite import sealing
from keyholt_agent.store.sqlite.transaction import Transaction
from keyholt_protocol.errors import ContentionError, IntegrityError, KeyholtError, LockedError
from tests.agent.store.builders import (
    CREATED,
    MASTER,
    Keeper,
    master,
    new_root,
    opened,
    portions,
    running,
    slot,
    unseal,
    unsealed,
    version,
)
from tests.agent.store.sqlite.behind import everything, sealed_record
from tests.agent.store.sqlite.writes import WRITES, adds_up, prepare, rewrapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from sqlite3 import Connection

    from keyholt_agent.store.commands import AnyCommand
    from keyholt_agent.store.sqlite.backend import SqliteBackend


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """A backend that takes each kind of write."""
    prepare(state)
    with unsealed(state) as backend:
        yield backend


@pytest.mark.parametrize("write", WRITES)
def test_each_kind_of_write_moves_the_state(backend: SqliteBackend, write: str) -> None:
    """To what the rows come to, with one commit more."""
    keeper = Keeper()
    command = WRITES[write](backend)
    with keeper.in_use():
        before = keeper.open(sealed_record(backend))
        backend.run([command])[0].unwrap()
        after = keeper.open(sealed_record(backend))
    assert after.commits == before.commits + 1
    assert after.total != before.total
    unseal(backend)


class WithoutAdded(Transaction):
    """A planted bug: what a command adds is not taken down."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        object.__setattr__(self, "add", lambda _: None)


class WithoutRemoved(Transaction):
    """A planted bug: what a command takes away is not taken down."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        object.__setattr__(self, "remove", lambda _: None)


REMOVES_NOTHING = {"put", "copy", "copy deleted", "add a master key", "new root"}


@pytest.mark.parametrize("bug", [WithoutAdded, WithoutRemoved])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_forgot_the_state_would_be_found(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch, write: str, bug: type[Transaction]
) -> None:
    """The control: each planted bug shows in each kind of write that it concerns."""
    command = WRITES[write](backend)
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "Transaction", bug)
        backend.run([command])[0].unwrap()
    assert adds_up(backend, Keeper()) == (bug is WithoutRemoved and write in REMOVES_NOTHING)


def test_a_batch_is_one_commit(backend: SqliteBackend) -> None:
    """And adds up, with refused commands in it, and with one that has the others run by themselves."""
    keeper = Keeper()
    with keeper.in_use():
        before = keeper.open(sealed_record(backend)).commits
        backend.run([PutSecret(path=path, new=version(number)) for path in "abcd" for number in (1, 2, 5)])
        assert keeper.open(sealed_record(backend)).commits == before + 1
        assert adds_up(backend, keeper)
        backend.run([PutSecret(path=path, new=version(3)) for path in ("a", "\ud800", "c")])
        assert keeper.open(sealed_record(backend)).commits == before + 3
        assert adds_up(backend, keeper)


def test_a_refusal_moves_nothing(backend: SqliteBackend) -> None:
    """Alone, not even the record is written anew; nor is it by reads."""
    before = everything(backend)
    with pytest.raises(KeyholtError):
        backend.run([PutSecret(path="a", new=version(7))])[0].unwrap()
    backend.run([ReadHistory(path="a", before=None, limit=1), ReadSlotTable()])
    unseal(backend)
    assert everything(backend) == before


@pytest.mark.parametrize("secrets", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("most", [1, 2, 3, 1000])
def test_portions_come_to_the_same_as_one(state: Path, secrets: int, most: int) -> None:
    """However many rows are read at a time: none in a table, fewer, exactly so many, or more."""
    with unsealed(state) as backend:
        for path in range(secrets):
            for number in (1, 2):
                backend.run([PutSecret(path=f"{path}", new=version(number))])[0].unwrap()
        backend.run([PutSecret(path="0", new=version(3))])
        parts = portions(backend, Keeper(), most)
        assert all(0 <= part.total < MODULUS for part in parts)
        # The store itself, a keyslot and a master key; paths; versions.
        assert sum(part.rows for part in parts) == 3 + secrets + 2 * secrets + bool(secrets)
        assert max(part.rows for part in parts[1:]) <= most
        assert adds_up(backend, Keeper(), most)


@pytest.mark.parametrize("most", [1, 2, 3, 1000])
async def test_an_unlock_tells_how_far_it_is(state: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Rows are counted up, never past all that there are, whatever the size of a portion."""
    async with opened(state) as store:
        for number in range(6):
            await store.ask(PutSecret(path=f"{number}", new=version(1)))
    monkeypatch.setattr(store_module, "ROWS_AT_ONCE", most)
    reports: list[tuple[int, int]] = []
    async with open_store(state) as store:
        await store.unseal(Keeper(), reports.append)
        await store.ask(PutSecret(path="0", new=version(2)))
    done = [report[0] for report in reports]
    assert done == sorted(done)
    assert all(12 <= rows <= 15 and done <= rows for done, rows in reports)
    assert len(reports) >= 2 * (6 // most)


PATHS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(1, 3)
BATCHES: st.SearchStrategy[list[AnyCommand]] = st.lists(
    st.one_of(
        st.builds(
            lambda path, number, deleted, key: PutSecret(
                path=path, new=version(number, master=key), deleted=deleted
            ),
            PATHS,
            NUMBERS,
            st.sampled_from([None, None, True, False]),
            NUMBERS,
        ),
        st.builds(
            lambda path, at: DeleteSecret(path=path, deleted_at=at), PATHS, st.sampled_from([0, 1, CREATED])
        ),
        st.builds(lambda path: UndeleteSecret(path=path), PATHS),
        st.builds(lambda path, number: DestroyVersion(path=path, version=number), PATHS, NUMBERS),
        st.builds(
            lambda number, count: CountWraps(key_id=MASTER, version=number, count=count, limit=1000),
            NUMBERS,
            st.sampled_from([0, 1, 600]),
        ),
        st.builds(
            lambda number, retired: AddMasterVersion(
                row=master(number), retire=retired and (MASTER, retired)
            ),
            NUMBERS,
            st.none() | NUMBERS,
        ),
        # One of a name that is taken is no refusal: a batch fails, and its commands are run by themselves.
        st.builds(
            lambda name, old, new: AddKeyslot(
                slot=slot(name), mac=b"mac %d" % new, expected_mac=b"mac %d" % old
            ),
            st.sampled_from(["one", "two"]),
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda number: RetireMasterVersion(key_id=MASTER, version=number), NUMBERS),
        st.just(PutSecret(path="\ud800", new=version(1))),  # which SQLite cannot take at all
    ),
    min_size=1,
    max_size=6,
)


class AddingUpMachine(RuleBasedStateMachine):
    """Writes of every kind while other keys add all rows up and come into force, and restarts in between."""

    pristine: Path

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.state = Path(shutil.copytree(self.pristine, Path(self.scratch.name) / "state"))
        self.generation = 0
        self.start(Keeper(self.key))

    @property
    def key(self) -> bytes:
        return b"%d" % self.generation if self.generation else Keeper.KEY

    def start(self, keeper: Keeper) -> None:
        self.open = ExitStack()
        self.backend = self.open.enter_context(running(self.state))
        self.keeper = keeper
        self.generation += 1
        self.successor = Keeper(self.key)
        unseal(self.backend, keeper)

    def teardown(self) -> None:
        with self.scratch:
            self.open.close()
            with running(self.state) as backend:
                unseal(backend, self.keeper)

    @rule(batch=BATCHES)
    def write(self, batch: Sequence[AnyCommand]) -> None:
        for outcome in self.backend.run(batch):
            error = getattr(outcome, "error", None)
            assert not isinstance(error, LockedError)
            # A keyslot of a name that is taken contradicts the one that has it.
            assert not isinstance(error, IntegrityError) or "contradict" in str(error)
        self.backend.maintain()

    @rule(most=st.integers(1, 3), times=st.integers(1, 4))
    def cover(self, most: int, times: int) -> None:
        for _ in range(times):
            self.backend.run([Cover(keeper=self.successor, most=most)])[0].unwrap()

    @rule(times=st.integers(0, 8))
    def replace_root(self, times: int) -> None:
        asked = [ReadSlotTable(), ReadMasterKeys()]
        table, masters = (outcome.unwrap() for outcome in self.backend.run(asked))
        for _ in range(times):
            self.backend.run([Cover(keeper=self.successor, most=2)])[0].unwrap()
        command = new_root(self.successor, table, masters, [slot("one")])
        try:
            self.backend.run([command])[0].unwrap()
        except ContentionError:
            return  # it has not come to the end
        self.keeper = self.successor
        self.generation += 1
        self.successor = Keeper(self.key)

    @rule(batches=st.lists(BATCHES, max_size=4), most=st.integers(1, 3))
    def replace_root_while_others_write(self, batches: list[list[AnyCommand]], most: int) -> None:
        for batch in batches:
            self.cover(most, 1)
            self.write(batch)
        self.replace_root(20)

    @rule()
    def give_up_the_successor(self) -> None:
        self.successor.give_up()
        self.generation += 1
        self.successor = Keeper(self.key)

    @rule(number=NUMBERS)
    def rewrap(self, number: int) -> None:
        rows = self.backend.run([ReadMasterKeys()])[0].unwrap()
        if any(row.version == number for row in rows):
            active = max(row.version for row in rows)
            self.backend.run([rewrapping(self.backend, MASTER, number, active)])

    @rule()
    def restart(self) -> None:
        self.open.close()
        self.start(self.keeper)

    @invariant()
    def rows_come_to_what_is_sealed(self) -> None:
        assert adds_up(self.backend, self.keeper)


SEARCH = settings(max_examples=60, stateful_step_count=20)


def test_whatever_is_asked_adds_up(pristine: Path) -> None:
    """After each batch, with refused commands and failing ones among them, and after other keys came."""
    machine = type("AddingUpMachine", (AddingUpMachine,), {"pristine": pristine})
    run_state_machine_as_test(machine, settings=SEARCH)


@pytest.mark.parametrize("bug", [WithoutAdded, WithoutRemoved])
def test_the_machine_finds_a_planted_bug(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, bug: type[Transaction]
) -> None:
    """The positive control of the test above."""
    monkeypatch.setattr(sealing, "Transaction", bug)
    machine = type("AddingUpMachine", (AddingUpMachine,), {"pristine": pristine})
    search = settings(SEARCH, print_blob=False, phases=[Phase.generate])
    with pytest.raises((AssertionError, IntegrityError)):
        run_state_machine_as_test(machine, settings=search)
