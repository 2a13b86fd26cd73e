"""Rows that somebody else changed, set back, removed or added: the next unlock finds each, changing nothing.

The controls are at the end: what nothing within a store can tell, and what is left to the seals of the rows.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_agent.store import PutSecret, open_store
from keyholt_agent.store.commands import ReadSecret
from keyholt_protocol.errors import IntegrityError, LockedError, NotFoundError
from tests.agent.store.builders import Keeper, running, unseal, unsealed, version
from tests.agent.store.sqlite.forging import KEYS, TABLES, Forger, Past, make_past

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COLUMNS = [(table, column) for table, columns in TABLES.items() for column in columns]
"""Every column that is part of an element, or sealed itself."""


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A store with every kind of row, and how it came to be; to be copied."""
    return make_past(tmp_path_factory.mktemp("past"))


@pytest.fixture
def forged(past: Past, tmp_path: Path) -> Callable[[], Forger]:
    """Gives a fresh copy of the store each time, to be forged."""
    return lambda: past.copy(tmp_path / "forged")


def is_found(forger: Forger) -> bool:
    """Whether a forgery is found by the next unlock, as what it is, with nothing changed by that.

    The store is opened: who has it may still read what its own seals vouch for. But it takes no writes.
    """
    before = forger.content
    with running(forger.directory) as backend:
        try:
            unseal(backend)
        except IntegrityError:
            with pytest.raises(LockedError):
                backend.run([PutSecret(path="new", new=version(1))])[0].unwrap()
        else:
            return False
        assert not backend.faulty
    assert forger.content == before
    return True


def changed(value: object) -> object:
    """Another value of the same type, for any column."""
    match value:
        case int():
            return value + 100  # more than there are of anything, so that SQLite takes it where it is unique
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case str():
            return value + "x"
        case _:
            return 1


@pytest.mark.parametrize("table, column", COLUMNS)
def test_a_changed_column_is_found(past: Past, forged: Callable[[], Forger], table: str, column: str) -> None:
    """In every row of every table, the least change; a key is one of the columns."""
    for row in past.now.rows(table):
        forger = forged()
        forger.set_column(table, row[KEYS[table]], column, changed(row[column]))
        assert is_found(forger), (table, column, row[KEYS[table]])


def earlier_values(past: Past, table: str, column: str) -> Iterator[tuple[int, Any]]:
    """Keys of rows, with a value that the column had in the row, and has no more."""
    now = {row[KEYS[table]]: row[column] for row in past.now.rows(table)}
    values = {
        (row[KEYS[table]], row[column])
        for stage in past.earlier
        for row in stage.rows(table)
        if row[KEYS[table]] in now
    }
    return ((key, value) for key, value in values if value != now[key])


HAD_OTHERS = {
    ("store_meta", "slot_table_mac"),
    ("store_meta", "sealed_state"),
    ("keyslot", "name"),
    ("keyslot", "header"),
    ("keyslot", "wrapped_root"),
    ("master_key", "state"),
    ("master_key", "wraps_reserved"),
    ("master_key", "retiring"),
    ("master_key", "wrapped"),
    ("secret", "latest"),
    ("secret", "deleted_at"),
    ("data_key", "wrapped_key"),
}
"""The columns that ever change."""


@pytest.mark.parametrize("table, column", sorted(HAD_OTHERS))
def test_a_column_set_back_is_found(
    past: Past, forged: Callable[[], Forger], table: str, column: str
) -> None:
    """To each genuine value that it had before: an older latest, no tombstone, fewer wraps, the old state."""
    values = list(earlier_values(past, table, column))
    assert values
    for key, value in values:
        forger = forged()
        forger.set_column(table, key, column, value)
        assert is_found(forger), (table, column, key)


def test_no_other_column_has_a_past(past: Past) -> None:
    """So the test above has them all."""
    assert {each for each in COLUMNS if any(earlier_values(past, *each))} == HAD_OTHERS


@pytest.mark.parametrize("table", TABLES)
def test_a_row_set_back_is_found(past: Past, forged: Callable[[], Forger], table: str) -> None:
    """As a whole, to each of the states that it was in; and so is the whole table with it."""
    now = {row[KEYS[table]]: row for row in past.now.rows(table)}
    tried = 0
    for stage in past.earlier:
        rows = [row for row in stage.rows(table) if row[KEYS[table]] in now]
        different = [row for row in rows if row != now[row[KEYS[table]]]]
        for some in [[row] for row in different] + ([different] if len(different) > 1 else []):
            forger = forged()
            forger.replace(table, *some)
            assert is_found(forger)
            tried += 1
    assert tried


def destroyed(past: Past) -> set[tuple[int, bytes, bytes]]:
    """Of each destroyed version the key of its row, and what its value and its wrapped key were."""
    gone = [row["id"] for row in past.now.rows("secret_version") if row["value"] is None]
    return {
        (key, version["value"], data_key["wrapped_key"])
        for key in gone
        for stage in past.earlier
        if (version := stage.row("secret_version", key))
        and (data_key := stage.row("data_key", key))
        and version["value"] is not None
    }


def test_a_destroyed_version_brought_back_is_found(past: Past, forged: Callable[[], Forger]) -> None:
    """Value and key, or the key, or the value alone."""
    ((key, value, wrapped),) = destroyed(past)
    for brought_back in ({"value"}, {"wrapped_key"}, {"value", "wrapped_key"}):
        forger = forged()
        if "value" in brought_back:
            forger.set_column("secret_version", key, "value", value)
        if "wrapped_key" in brought_back:
            forger.set_column("data_key", key, "wrapped_key", wrapped)
        assert is_found(forger), brought_back


def test_a_version_that_is_made_to_look_destroyed_is_found(past: Past, forged: Callable[[], Forger]) -> None:
    """Its value gone, or its key, or both."""
    for row in past.now.rows("secret_version"):
        if row["value"] is None:
            continue
        wrapped = data_key_of(past, row)["wrapped_key"]
        for gone in ({"value"}, {"wrapped_key"}, {"value", "wrapped_key"}):
            forger = forged()
            if "value" in gone:
                forger.set_column("secret_version", row["id"], "value", None)
            if "wrapped_key" in gone:
                forger.set_column("data_key", row["id"], "wrapped_key", bytes(len(wrapped)))
            assert is_found(forger), gone


def data_key_of(past: Past, version: dict[str, Any]) -> dict[str, Any]:
    """The row of a version's data key."""
    row = past.now.row("data_key", version["id"])
    assert row is not None
    return row


@pytest.mark.parametrize("table", [table for table in TABLES if table != "store_meta"])
def test_a_removed_row_is_found(past: Past, forged: Callable[[], Forger], table: str) -> None:
    """Each, and all of a table; a store without its own row is not even opened."""
    rows = past.now.rows(table)
    for row in rows:
        forger = forged()
        forger.remove(table, row[KEYS[table]])
        assert is_found(forger), row[KEYS[table]]
    forger = forged()
    forger.run(f"DELETE FROM {table}")
    assert is_found(forger)


UNIQUE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "keyslot": lambda row: {"name": row["name"] + "x"},
    "master_key": lambda row: {"version": row["version"] + 10},
    "secret": lambda row: {"path": row["path"] + "x"},
    "secret_version": lambda row: {"version": row["version"] + 10},
    "data_key": lambda _: {},
}
"""What a copy of a row must have otherwise, for SQLite to take it: at most one column beside the key."""

AT_THE_END, NOWHERE_NEAR = 100, (0, -1, 2**63 - 1, -(2**63))
"""Keys that an added row may have; the agent's are 1, 2, 3 ..."""


@pytest.mark.parametrize("key", [AT_THE_END, *NOWHERE_NEAR])
@pytest.mark.parametrize("table", UNIQUE)
def test_an_added_row_is_found(past: Past, forged: Callable[[], Forger], table: str, key: int) -> None:
    """A copy of each, under any key."""
    for row in past.now.rows(table):
        forger = forged()
        forger.add(table, row | UNIQUE[table](row) | {KEYS[table]: key})
        assert is_found(forger), row[KEYS[table]]


@pytest.mark.parametrize("key", [AT_THE_END, *NOWHERE_NEAR])
def test_an_added_version_with_its_data_key_is_found(
    past: Past, forged: Callable[[], Forger], key: int
) -> None:
    """A copy of each as a further version of the same secret."""
    for row in past.now.rows("secret_version"):
        forger = forged()
        data_key = data_key_of(past, row)
        forger.add("secret_version", row | UNIQUE["secret_version"](row) | {"id": key})
        forger.add("data_key", data_key | {"id": key})
        assert is_found(forger), row["id"]


@pytest.mark.parametrize("table", [table for table in TABLES if table != "store_meta"])
def test_rows_that_were_swapped_are_found(past: Past, forged: Callable[[], Forger], table: str) -> None:
    """Any two of a table, as a whole and in each column in which they differ."""
    key = KEYS[table]
    rows = past.now.rows(table)
    pairs = [(one, other) for one in rows for other in rows if one[key] < other[key]]
    assert pairs
    for one, other in pairs:
        forger = forged()
        forger.replace(table, one | {key: other[key]}, other | {key: one[key]})
        assert is_found(forger)
        for column in TABLES[table]:
            if column != key and one[column] != other[column]:
                forger = forged()
                swapped = one | {column: other[column]}, other | {column: one[column]}
                try:
                    forger.replace(table, *swapped)
                except sqlite3.IntegrityError:
                    continue  # a version that the other's secret has already
                assert is_found(forger), column


FORGED_VALUES: tuple[Any, ...] = (
    "",
    "text",
    b"",
    b"blob",
    1.5,
    float("inf"),
    -(2**63),
    2**63 - 1,
    0,
    -1,
    None,
)
"""Of every type that SQLite knows, and the ends of each."""


@pytest.mark.parametrize("table, column", COLUMNS)
def test_a_forged_type_is_found(past: Past, forged: Callable[[], Forger], table: str, column: str) -> None:
    """Every column takes values of any type (sqlite.org/datatype3.html): none is a defect of the program."""
    tried = 0
    for row in past.now.rows(table):
        for value in FORGED_VALUES:
            forger = forged()
            try:
                forger.set_column(table, row[KEYS[table]], column, value)
            except sqlite3.IntegrityError:
                continue  # NOT NULL, or an integer where it is the key
            if forger.row(table, row[KEYS[table]]) != row:
                assert is_found(forger), value
                tried += 1
    assert tried


@pytest.mark.parametrize("table, column", [each for each in COLUMNS if each[1] != "sealed_state"])
def test_the_same_value_of_another_type_is_found(
    past: Past, forged: Callable[[], Forger], table: str, column: str
) -> None:
    """To SQLite text is never the same as bytes: who asks for a path does not find one that is bytes."""
    for row in past.now.rows(table):
        for kind in ("TEXT", "BLOB"):
            forger = forged()
            key = row[KEYS[table]]
            before = forger.type_of(table, key, column)
            try:
                forger.run(
                    f"UPDATE {table} SET {column} = CAST({column} AS {kind}) WHERE {KEYS[table]} = ?", (key,)
                )
            except sqlite3.IntegrityError:
                continue  # the key has to be an integer
            if forger.type_of(table, key, column) not in {before, "null"}:
                assert is_found(forger), kind


@pytest.mark.parametrize(
    "table, constraint, asked",
    [
        ("secret", "UNIQUE (path)", ReadSecret(path="a", version=None)),
        ("secret_version", "UNIQUE (secret_id, version)", ReadSecret(path="a", version=1)),
    ],
)
def test_a_row_that_an_index_hides_is_found(
    forged: Callable[[], Forger], table: str, constraint: str, asked: ReadSecret
) -> None:
    """The row is there, in its table; but the index by which it is looked up does not know of it."""
    forger = forged()
    row, *_ = before = forger.rows(table)
    forger.remove(table, 1)
    forger.without_index(table, constraint, row)
    assert forger.rows(table) == before
    with running(forger.directory) as backend, pytest.raises(NotFoundError):
        backend.run([asked])[0].unwrap()
    assert is_found(forger)


def test_another_store_s_rows_are_found(past: Past, forged: Callable[[], Forger], pristine: Path) -> None:
    """Sealed with the same keys, even: what is sealed belongs to the rows of the one."""
    forger = forged()
    (other,) = Forger(pristine).rows("store_meta")
    forger.set_column("store_meta", 1, "sealed_state", other["sealed_state"])
    assert is_found(forger)


def test_other_keys_unseal_nothing(past: Past, forged: Callable[[], Forger]) -> None:
    """Nor do they come to the same sum."""
    with running(forged().directory) as backend, pytest.raises(IntegrityError):
        unseal(backend, Keeper(b"another key"))


@pytest.mark.parametrize("nothing", ["opened", "opened twice"])
def test_a_store_that_nobody_touched_is_whole(forged: Callable[[], Forger], nothing: str) -> None:
    """The control of all of the above."""
    forger = forged()
    for _ in range(1 if nothing == "opened" else 2):
        assert not is_found(forger)


def test_a_value_is_left_to_its_seal(past: Past, forged: Callable[[], Forger]) -> None:
    """A control, and a limit: a data key seals one value, so another is found by who opens it."""
    forger = forged()
    forger.set_column("secret_version", 1, "value", b"another value")
    assert not is_found(forger)


def test_a_store_set_back_as_a_whole_is_not_found(past: Past) -> None:
    """A control, and the limit: each stage was the agent's own, and nothing within it says how old it is."""
    for stage in past.stages:
        with unsealed(stage) as backend:
            assert backend.initialised


async def test_a_forged_store_serves_no_writes_through_its_tasks(forged: Callable[[], Forger]) -> None:
    """As the backend, so the store: the unlock is refused, and so is what would be written."""
    forger = forged()
    forger.set_column("secret", 1, "latest", 1)
    async with open_store(forger.directory) as store:
        with pytest.raises(IntegrityError, match="not as the agent left it"):
            await store.unseal(Keeper())
        with pytest.raises(LockedError):
            await store.ask(PutSecret(path="new", new=version(1)))
