"""A store that somebody else wrote to, with SQLite and without a key: refused as a whole, or row by row.

What could undo an acknowledged change is refused before anything is served; a damaged row hinders no other.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final

import pytest

from keyholt_agent.store import (
    DestroyVersion,
    PutSecret,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    StoreDamagedError,
    open_store,
)
from keyholt_agent.store.commands import ReadSecret
from keyholt_agent.store.sqlite.backend import RECOVERY_INTERVAL
from keyholt_agent.store.sqlite.database import Database
from keyholt_protocol.errors import IntegrityError, StoreUnavailableError
from tests.agent.store.builders import head, listed, opened, running, sql, unsealed, version
from tests.support.users import need_other_uids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyholt_agent.store.sqlite.backend import SqliteBackend

IGNORE: Final = "BEGIN SELECT RAISE(IGNORE); END"
RESERVED: Final = f"CREATE TRIGGER sqlite_keep BEFORE UPDATE ON data_key {IGNORE}"
SCHEMA: Final = "PRAGMA writable_schema = ON"
"""Lets whoever has the file write anything into its schema, names that SQLite keeps for itself included."""

FORGED: Final = {
    "trigger": ["CREATE TRIGGER keep BEFORE UPDATE ON data_key " + IGNORE],
    "reserved name": [
        SCHEMA,
        f"INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_keep', 'data_key', 0, '{RESERVED}')",
    ],
    "conflict clause": [
        SCHEMA,
        "UPDATE sqlite_schema SET sql = replace(sql, 'value BLOB', 'value BLOB NOT NULL ON CONFLICT IGNORE')",
    ],
    "view": ["CREATE VIEW more AS SELECT * FROM secret"],
    "table": ["CREATE TABLE more (id INTEGER)"],
    "index": ["CREATE UNIQUE INDEX one ON secret (latest)"],
    "other index": ["DROP INDEX data_key_master", "CREATE INDEX data_key_master ON data_key (wrapped_key)"],
    "missing index": ["DROP INDEX data_key_master"],
}


@pytest.mark.parametrize("forgery", FORGED)
async def test_a_schema_that_keyholt_did_not_make_is_refused(state: Path, forgery: str) -> None:
    """Triggers, under whatever name, views, and tables or indexes made otherwise."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=version(1)))
    sql(state, *FORGED[forgery])
    with pytest.raises(StoreDamagedError, match="not as Keyholt made it"):
        async with open_store(state):
            pass


@pytest.mark.parametrize("forgery", ["trigger", "reserved name", "conflict clause"])
def test_a_forged_schema_would_undo_a_destruction(
    state: Path, monkeypatch: pytest.MonkeyPatch, forgery: str
) -> None:
    """The control: served all the same, an acknowledged destruction leaves the key or all of it."""
    with unsealed(state) as backend:
        backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
    sql(state, *FORGED[forgery])
    monkeypatch.setattr(Database, "_check_schema", lambda *_: None)
    with unsealed(state) as backend:
        backend.run([DestroyVersion(path="a", version=1)])[0].unwrap()
        rows = backend._usable().connection.execute("SELECT wrapped_key, value FROM data_key, secret_version")
        ((key, value),) = rows.fetchall()
    assert any(key) or value is not None


BYTES: Final = (
    "UPDATE secret_version SET value = CAST(x'ff00fe' AS TEXT) WHERE id = 2",
    "UPDATE secret_version SET value = 5 WHERE id = 2",
    "UPDATE secret_version SET metadata = CAST(x'ff00fe' AS TEXT) WHERE id = 2",
    "UPDATE secret_version SET metadata = 1.5 WHERE id = 2",
    "UPDATE data_key SET wrapped_key = CAST(x'ff00fe' AS TEXT) WHERE id = 2",
    "UPDATE secret SET path = CAST(x'62ff' AS TEXT) WHERE id = 2",
)


@pytest.mark.parametrize("damage", BYTES)
async def test_a_damaged_row_hinders_no_other(state: Path, damage: str) -> None:
    """One bit of a row's header makes text of bytes: that row is damaged, and listed all the same."""
    async with opened(state) as store:
        for path in "abc":
            await store.ask(PutSecret(path=path, new=version(1)))
    sql(state, damage)
    async with open_store(state) as store:
        paths = await listed(store)
        assert paths in (["a", "b", "c"], ["a", "b\udcff", "c"])
        for path in (path for path in paths if path.isascii()):
            if path == "b" and "metadata" not in damage:  # what is damaged there shows when it is opened
                with pytest.raises(IntegrityError, match="a row of"):
                    await store.read_secret(path, None)
            else:
                record = await store.read_secret(path, None)
                assert {type(record.metadata), type(record.value), type(record.wrapped_key)} == {bytes}
            assert len((await store.ask(ReadHistory(path=path, before=None, limit=5)))[1]) == 1


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """The backend of a store with ``a`` in it, and a keyslot whose name is no text."""
    with unsealed(state) as backend:
        backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
    sql(state, "UPDATE keyslot SET name = CAST(x'ff' AS TEXT)")
    with running(state) as backend:
        yield backend


def test_a_row_that_cannot_be_read_is_no_fault_of_the_store(backend: SqliteBackend) -> None:
    """Its reader is told, whoever else is in the batch is answered, and nothing is reopened."""
    database = backend._database
    history = ReadHistory(path="a", before=None, limit=1)
    table, found, read = backend.run([ReadSlotTable(), history, ReadSecret(path="a", version=None)])
    with pytest.raises(IntegrityError, match="a row of"):
        table.unwrap()
    assert found.unwrap()[0].latest == read.unwrap().version == 1
    assert not backend.faulty
    backend.maintain()
    assert backend._database is database


def test_the_store_is_not_checked_over_and_over(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault after a recovery waits as one after a failed attempt does: checks cost everybody."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checks: list[bool] = []
    open_database = Database.open

    def opened(path: Path, *, whole_check: bool = False) -> Database:
        checks.append(whole_check)
        return open_database(path, whole_check=whole_check)

    monkeypatch.setattr(Database, "open", opened)
    for turn in range(1, 4):
        for _ in range(3):
            backend._set_fault(OSError(5, "Input/output error"))
            for _ in range(5):
                backend.maintain()
                backend.run([ReadHistory(path="a", before=None, limit=1)])
        assert checks == [True] * turn
        assert backend.faulty
        now[0] += RECOVERY_INTERVAL
    assert backend.run([ReadHistory(path="a", before=None, limit=1)])[0].unwrap()[0].latest == 1


@pytest.mark.parametrize("column", ["state", "custody"])
async def test_a_word_that_nobody_knows_is_damage(state: Path, column: str) -> None:
    """One byte of a master key's state changed: an integrity error, and no defect of the program."""
    sql(state, f"UPDATE master_key SET {column} = 'activf'")
    async with open_store(state) as store:
        with pytest.raises(IntegrityError, match="does not know"):
            await store.ask(ReadMasterKeys())
        assert (await head(store, "a")).latest == 0


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
async def test_a_directory_that_others_write_in_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever may write there could put a store of theirs in the place of the agent's."""
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(
        StoreUnavailableError, match=r"others may write to .*: (chmod go-w|use a directory below) "
    ):
        async with open_store(directory):
            pass
    assert os.listdir(directory) == []
    directory.chmod(0o750)
    async with open_store(directory) as store:
        assert not store.initialised


def contents(state: Path) -> dict[str, bytes]:
    """What each file of a directory holds."""
    return {path.name: path.read_bytes() for path in state.iterdir()}


@pytest.mark.parametrize(
    "name, mode, sentence",
    [
        ("store.db", 0o644, "others may read"),
        ("store.db", 0o620, "others may write to"),
        ("store.db-wal", 0o604, "others may read"),
        ("store.db-shm", 0o666, "others may write to"),
        ("store.db-journal", 0o666, "others may write to"),
        ("store.lock", 0o660, "others may write to"),
    ],
)
async def test_a_file_that_others_may_use_is_refused(
    state: Path, name: str, mode: int, sentence: str
) -> None:
    """Each file that SQLite takes for a part of the store, and the lock; nothing is changed, nor closed."""
    file = state / name
    file.touch()
    file.chmod(mode)
    before = contents(state)
    with pytest.raises(StoreUnavailableError, match=rf"{sentence} {file} \(mode {mode:04o}\): chmod"):
        async with open_store(state):
            pass
    assert before.items() <= contents(state).items()
    assert stat.S_IMODE(file.stat().st_mode) == mode
    file.chmod(0o600)
    async with open_store(state) as store:
        assert store.initialised


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.lock", "."])
async def test_a_file_of_another_user_is_refused(state: Path, name: str) -> None:
    """Its owner could change it at any time, whatever the mode."""
    need_other_uids()
    (state / name).touch()
    (state / name).chmod(0o700 if name == "." else 0o600)
    os.chown(state / name, 4711, 4711)
    with pytest.raises(StoreUnavailableError, match=r"belongs to uid 4711.*chown it to root"):
        async with open_store(state):
            pass


async def test_a_store_that_is_a_link_is_refused(state: Path, tmp_path: Path) -> None:
    """Its log would lie in another directory than the one that is looked at."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (state / "store.db").rename(tmp_path / "elsewhere" / "store.db")
    (state / "store.db").symlink_to(tmp_path / "elsewhere" / "store.db")
    with pytest.raises(StoreUnavailableError, match="is a link: name the directory"):
        async with open_store(state):
            pass
    async with open_store(tmp_path / "elsewhere") as store:
        assert store.initialised


async def test_a_directory_above_that_others_write_in_is_refused(state: Path) -> None:
    """They could put another state directory in the place of this one."""
    state.parent.chmod(0o777)
    with pytest.raises(StoreUnavailableError, match=f"others may write to {state.parent} "):
        async with open_store(state):
            pass
    state.parent.chmod(0o700)
