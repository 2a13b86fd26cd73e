"""Forged rows: whatever SQLite can hold, in any column of any table, is damage and nothing worse.

Each form is forged into each column, past the types and constraints that the table declares, and then
everything is asked of the store. A damaged row is ``integrity``; it is never a defect, ends no thread, is no
fault of the whole store, takes no memory to speak of, and keeps no other row from being served.
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest
from outcome import Error, Value

from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CountWraps,
    DeleteSecret,
    DestroyVersion,
    ListSecrets,
    PutSecret,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    StoreDamagedError,
    StoreNewerError,
    UndeleteSecret,
)
from keyholt_agent.store.commands import CountSecrets, ReadSecret
from keyholt_agent.store.sqlite import columns, database, schema, sql, statements
from keyholt_agent.store.sqlite.backend import SqliteBackend
from keyholt_protocol.errors import (
    AlreadyExistsError,
    ConflictError,
    ContentionError,
    IntegrityError,
    NotFoundError,
    ResourceExhaustedError,
)
from tests.agent.store.builders import MASTER, Keeper, make_store, master, slot, unseal, version

if TYPE_CHECKING:
    from pathlib import Path

    from keyholt_agent.store.commands import AnyCommand

MEBIBYTE: Final = 1024 * 1024

LARGEST: Final = 4 * MEBIBYTE
"""What SQLite gives out while every form is tried: of its usual limit, a gigabyte would be written."""

FORMS: Final = {
    "null": "NULL",
    "zero": "0",
    "negative": "-1",
    "least integer": "-9223372036854775808",
    "greatest integer": "9223372036854775807",
    "float": "1.5",
    "infinite": "9e999",
    "text": "'text'",
    "empty text": "''",
    "number as text": "'1'",
    "no text": "CAST(x'ff00fe' AS TEXT)",
    "long text": f"CAST(zeroblob({3 * MEBIBYTE}) AS TEXT)",
    "bytes": "x'00ff'",
    "no bytes": "x''",
    "long bytes": f"zeroblob({3 * MEBIBYTE})",
    "too long": f"zeroblob({LARGEST + 1})",
    "too long a text": f"CAST(zeroblob({LARGEST + 1}) AS TEXT)",
}
"""By what they are; the last two are larger than SQLite gives out at all."""

TABLES: Final = (*schema.METADATA.sorted_tables, schema.alembic_version)
PLACES: Final = [(table.name, column.name) for table in TABLES for column in table.columns]
DAMAGED: Final = (IntegrityError, ResourceExhaustedError)
REFUSALS: Final = (
    *DAMAGED,
    NotFoundError,  # the row does not name any more what is asked for
    ConflictError,  # the row says otherwise than the command expects
    AlreadyExistsError,
    ContentionError,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a store with three secrets of two versions each, one of them deleted."""
    state = tmp_path_factory.mktemp("template")
    make_store(state)
    backend = SqliteBackend(state)
    backend.start()
    unseal(backend)
    for path in ("a", "victim", "z"):
        for number in (1, 2):
            backend.run([PutSecret(path=path, new=version(number))])[0].unwrap()
    backend.run([PutSecret(path="gone", new=version())])[0].unwrap()
    backend.run([DeleteSecret(path="gone", deleted_at=5)])[0].unwrap()
    backend.stop()
    return (state / "store.db").read_bytes()


def _written(store: Path, content: bytes) -> None:
    """Put a store there, for nobody else to read."""
    store.touch(mode=0o600)
    store.write_bytes(content)


def forge(store: Path, table: str, column: str, form: str) -> bool:
    """Put a form into a column of the row in the middle; false where SQLite itself cannot hold it there."""
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        if table == "secret":
            where = "path = 'victim'"
        elif table in {"secret_version", "data_key"}:
            where = "id = (SELECT v.id FROM secret_version v JOIN secret s ON s.id = secret_id "
            where += "WHERE path = 'victim' AND v.version = 2)"
        else:
            where = "1"
        ((text,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table])
        # Without NOT NULL, and with no type for SQLite to convert to, the same table takes anything.
        loose = text.replace("NOT NULL", "").replace(" TEXT", " BLOB").replace(" VARCHAR(32)", " BLOB")
        if f"PRIMARY KEY ({column})" not in text:  # that is the number of the row, and can be nothing else
            loose = loose.replace(f"{column} INTEGER ", f"{column} BLOB ")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", [loose, table])
        connection.execute("PRAGMA writable_schema = RESET")
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        try:
            connection.execute(f"UPDATE {table} SET {column} = {form} WHERE {where}")
        except sqlite3.IntegrityError:
            return False
        finally:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", [text, table])
            connection.execute("PRAGMA writable_schema = RESET")
    return True


def everything(path: str) -> list[AnyCommand]:
    """Every command there is but the creation, those that change anything last."""
    return [
        ReadSecret(path=path, version=None),
        ReadSecret(path=path, version=2),
        ReadSecret(path=path, version=None, most=64 * MEBIBYTE),
        ListSecrets(prefix="", after=None, limit=10),
        ListSecrets(prefix="v", after=None, limit=10),
        ReadHistory(path=path, before=None, limit=10),
        CountSecrets(),
        ReadSlotTable(),
        ReadMasterKeys(),
        CountWraps(key_id=MASTER, version=1, count=10, limit=2**20),
        PutSecret(path=path, new=version(3)),
        DeleteSecret(path=path, deleted_at=9),
        UndeleteSecret(path=path),
        DestroyVersion(path=path, version=2),
        AddMasterVersion(row=master(2), retire=(MASTER, 1)),
        AddKeyslot(slot=slot("new"), mac=b"mac 1", expected_mac=b"mac 0"),
    ]


def ask_everything(directory: Path) -> list[str]:
    """Ask all of a forged store; what came of it that must not."""
    backend = SqliteBackend(directory)
    try:
        backend.start()
    except (StoreDamagedError, StoreNewerError):
        return []  # what it is of a store is what is damaged: it is refused by name
    backend._sealing.begin(Keeper())  # as it is where the file is forged after the unlock
    found: list[str] = []
    try:
        for path in ("victim", "a"):
            for command in everything(path):
                (outcome,) = backend.run([command])
                if isinstance(outcome, Error) and not isinstance(outcome.error, REFUSALS):
                    found.append(f"{type(command).__name__} of {path}: {outcome.error!r}")
                if backend.faulty:
                    return [*found, f"{type(command).__name__} of {path} made the store faulty"]
        listing = backend.run([ListSecrets(prefix="", after=None, limit=10)])[0]
        if isinstance(listing, Value) and "z" not in [one.path for one in listing.value.secrets]:
            found.append("another secret is not listed any more")
        if isinstance(listing, Error) and not isinstance(
            listing.error, (IntegrityError, ResourceExhaustedError)
        ):
            found.append(f"the listing: {listing.error!r}")
        if isinstance(backend.run([ReadSecret(path="z", version=None)])[0], Error):
            found.append("another secret cannot be read any more")
    finally:
        backend.stop()
    return found


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_forged_column(
    tmp_path: Path, template: bytes, monkeypatch: pytest.MonkeyPatch, place: tuple[str, str]
) -> None:
    """Every form in it; the check of all pages, which finds some of them at the start, left out."""
    monkeypatch.setattr(database, "WHOLE_CHECK_LIMIT", 0)
    monkeypatch.setattr(database, "LARGEST", LARGEST)
    table, column = place
    store = tmp_path / "store.db"
    found: list[str] = []
    forged = 0
    for name, form in FORMS.items():
        _written(store, template)
        if forge(store, table, column, form):
            forged += 1
            found += [f"{name}: {one}" for one in ask_everything(tmp_path)]
    assert found == []
    assert forged


def test_forgery_without_the_check_is_a_defect(
    tmp_path: Path, template: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what is not held against its column ends as a defect of the program."""
    monkeypatch.setattr(database, "CHECKED", frozenset())
    monkeypatch.setattr(database, "WHOLE_CHECK_LIMIT", 0)
    store = tmp_path / "store.db"
    found: list[str] = []
    for column in ("wraps_reserved", "state"):
        _written(store, template)
        assert forge(store, "master_key", column, "x'00'")
        found += ask_everything(tmp_path)
    assert any("InternalError" in one for one in found)


@pytest.mark.parametrize(
    "table, column",
    [("data_key", "wrapped_key"), ("keyslot", "header"), ("master_key", "wrapped"), ("keyslot", "name")],
)
def test_what_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, template: bytes, table: str, column: str
) -> None:
    """By SQLite itself, which says so before it takes memory for it."""
    store = tmp_path / "store.db"
    _written(store, template)
    too_long = f"zeroblob({columns.LARGEST + 1})"
    assert forge(store, table, column, f"CAST({too_long} AS TEXT)" if column == "name" else too_long)
    command = {"data_key": ReadSecret(path="victim", version=None), "master_key": ReadMasterKeys()}
    backend = SqliteBackend(tmp_path)
    backend.start()
    (outcome,) = backend.run([command.get(table, ReadSlotTable())])
    backend.stop()
    with pytest.raises(IntegrityError, match="larger than any that the agent writes"):
        outcome.unwrap()


def test_every_column_is_known() -> None:
    """Each column of each result has its bounds, or a statement could not be run; and none has two names."""
    for name in statements.__all__:
        statement = getattr(sql, name)
        if statement in columns.CHECKED:
            with closing(sqlite3.connect(":memory:")) as connection:
                for _, _, text in sql.SCHEMA:
                    connection.execute(text)
                values = dict.fromkeys(
                    [
                        "path",
                        "most",
                        "secret_id",
                        "version",
                        "first",
                        "end",
                        "limit",
                        "after",
                        "row",
                        "master",
                    ],
                    1,
                )
                cursor = connection.execute(statement, {**values, "before": 1, "key_id": b"", "name": ""})
                assert {column[0] for column in cursor.description} <= columns.COLUMNS.keys(), name


HUGE: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=DELETE")
connection.execute(sys.argv[2])
"""

ASK: Final = """
import resource, sys
from pathlib import Path
from keyholt_agent.store.sqlite import database
from tests.agent.store.sqlite.test_columns import ask_everything
database.WHOLE_CHECK_LIMIT = int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(ask_everything(Path(sys.argv[1])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

LARGE: Final = 500_000_000
HUGE_FORMS: Final = {
    "value": f"UPDATE secret_version SET value = zeroblob({LARGE}) WHERE id = 4",
    "value as text": f"UPDATE secret_version SET value = CAST(zeroblob({LARGE}) AS TEXT) WHERE id = 4",
    "metadata": f"UPDATE secret_version SET metadata = zeroblob({LARGE}) WHERE id = 4",
    "wrapped key": f"UPDATE data_key SET wrapped_key = zeroblob({LARGE}) WHERE id = 4",
    "path": f"UPDATE secret SET path = CAST(zeroblob({LARGE}) AS TEXT) WHERE id = 2",
    "header": f"UPDATE keyslot SET header = zeroblob({LARGE})",
    "many keyslots": "WITH RECURSIVE n(x) AS (SELECT 2 UNION ALL SELECT x + 1 FROM n WHERE x < 2000000) "
    "INSERT INTO keyslot SELECT x, x, 'passphrase', 1, x'00', x'00' FROM n",
    "many master keys": "WITH RECURSIVE n(x) AS (SELECT 2 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000) "
    "INSERT INTO master_key SELECT x, key_id, x, name, state, custody, 1, 0, 0, wrapped FROM n, master_key",
}


@pytest.mark.torture
@pytest.mark.parametrize("check", [0, 2**40], ids=["unchecked", "checked"])
@pytest.mark.parametrize("form", HUGE_FORMS)
def test_forged_size_takes_no_memory(tmp_path: Path, template: bytes, form: str, check: int) -> None:
    """Half a gigabyte in a row, or millions of rows: in a process of its own, whose memory hardly grows."""
    store = tmp_path / "store.db"
    _written(store, template)
    subprocess.run([sys.executable, "-c", HUGE, store, HUGE_FORMS[form]], check=True)
    arguments: list[Any] = [sys.executable, "-c", ASK, tmp_path, str(check)]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    said, _, grown = done.stdout.strip().rpartition(" ")
    assert said == "[]", done.stderr
    assert int(grown) * 1024 < columns.HEAP_LIMIT + 64 * MEBIBYTE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
