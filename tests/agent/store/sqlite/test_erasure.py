"""What is destroyed is in no file any more: the wrapped key that alone could open it, above all."""

from __future__ import annotations

import os
import random
import resource
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.store import (
    DestroyVersion,
    ErasureOwedError,
    HeadMovedError,
    PurgeSecret,
    PutSecret,
    ReadMasterKeys,
    SlotRow,
    Store,
)
from keyholt_agent.store.sqlite.database import LOG_LIMIT, PRAGMAS, Database
from keyholt_protocol.errors import IntegrityError, NotFoundError
from tests.agent.store.builders import Keeper, opened, rekey, slot, unsealed, version
from tests.agent.store.sqlite.behind import everything, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyholt_agent.store.sqlite.backend import SqliteBackend


def on_disk(state: Path) -> bytes:
    """Every byte of every file of the store."""
    return b"".join(path.read_bytes() for path in sorted(state.iterdir()))


@pytest.mark.parametrize("written_over", [False, True])
async def test_a_destroyed_version_is_gone_from_the_files_when_the_call_returns(
    store: Store, state: Path, *, written_over: bool
) -> None:
    """Key and value of that version, and of no other; the key was there before (the control)."""
    if written_over:  # the log from its beginning
        await store.ask(PutSecret(path="large", new=version(1, value=bytes(LOG_LIMIT))))
    news = {number: version(number, value=os.urandom(10_000)) for number in (1, 2, 3)}
    for new in news.values():
        await store.ask(PutSecret(path="a", new=new))
    before = on_disk(state)
    assert all(new.wrapped_key in before for new in news.values())
    await store.ask(DestroyVersion(path="a", version=2))
    after = on_disk(state)
    assert news[2].wrapped_key not in after
    assert all(news[2].value[at : at + 32] not in after for at in range(0, 10_000, 32))
    assert news[1].wrapped_key in after
    assert news[3].wrapped_key in after


def test_no_destroyed_key_is_left_in_the_slack_of_a_page(state: Path) -> None:
    """However the store has grown and shrunk before: 1,500 versions, two in five of them destroyed."""
    chance = random.Random(1)
    live: dict[tuple[str, int], bytes] = {}
    dead: list[bytes] = []
    latest: dict[str, int] = {}
    with unsealed(state) as backend:
        assert backend._database is not None
        backend._database.pragma("synchronous=OFF")  # for speed: what is written where does not depend on it
        for _ in range(1_500):
            path = f"path/{chance.randrange(300)}"
            latest[path] = number = latest.get(path, 0) + 1
            live[path, number] = key = chance.randbytes(60)
            value = chance.randbytes(chance.choice([50, 300, 2000, 9000]))
            backend.run([PutSecret(path=path, new=version(number, value=value, key=key))])[0].unwrap()
            if chance.random() < 0.4:
                victim = chance.choice(list(live))
                dead.append(live.pop(victim))
                backend.run([DestroyVersion(path=victim[0], version=victim[1])])[0].unwrap()
    disk = on_disk(state)
    assert [key for key in live.values() if key not in disk] == []
    assert [key for key in dead if key in disk] == []


def test_a_layout_with_the_key_beside_the_value_would_leave_keys_behind(tmp_path: Path) -> None:
    """The positive control, and why ``data_key`` is a table of its own: NULL in place is not enough."""
    chance = random.Random(1)
    connection = sqlite3.connect(tmp_path / "clustered.db", isolation_level=None)
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA journal_mode=MEMORY")
    connection.execute(
        "CREATE TABLE t (s INT, v INT, key BLOB, value BLOB, PRIMARY KEY (s, v)) WITHOUT ROWID"
    )
    live: dict[tuple[int, int], bytes] = {}
    dead: list[bytes] = []
    for number in range(3_000):
        at = (chance.randrange(300), number)
        live[at] = key = chance.randbytes(60)
        value = chance.randbytes(chance.choice([50, 300, 2000, 9000]))
        connection.execute("INSERT INTO t VALUES (?, ?, ?, ?)", (*at, key, value))
        if chance.random() < 0.4:
            victim = chance.choice(list(live))
            dead.append(live.pop(victim))
            connection.execute("UPDATE t SET key = NULL, value = NULL WHERE s = ? AND v = ?", victim)
    connection.close()
    disk = on_disk(tmp_path)
    assert [key for key in dead if key in disk] != []


def test_a_replaced_root_key_is_gone_from_the_files_when_the_call_returns(state: Path) -> None:
    """However many slots wrapped it, and master keys that it wrapped; those that replace them are there."""
    slots = [
        SlotRow(
            name=f"slot {n}",
            kind="passphrase",
            header=os.urandom(300 + 90 * n),
            wrapped_root=os.urandom(60),
            created=n,
        )
        for n in range(40)
    ]
    with unsealed(state) as backend:
        rekey(backend, Keeper(), *slots)
        for turn in range(1, 11):
            old = [row.wrapped for row in backend.run([ReadMasterKeys()])[0].unwrap()]
            assert all(wrapped in on_disk(state) for wrapped in old)
            removed = slots
            slots = [replace(entry, wrapped_root=os.urandom(60)) for entry in slots if entry.created != turn]
            slots.insert(turn, slot(f"new {turn}"))
            rekey(backend, Keeper(b"%d" % turn), *slots)
            disk = on_disk(state)
            assert [entry.name for entry in removed if entry.wrapped_root in disk] == []
            assert all(entry.wrapped_root in disk for entry in slots)
            assert [wrapped for wrapped in old if wrapped in disk] == []


async def test_nothing_destroyed_comes_back_after_a_restart(state: Path) -> None:
    """Closing and opening brings no old page back."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=(new := version(1))))
        await store.ask(DestroyVersion(path="a", version=1))
    async with opened(state) as store:
        assert (await store.read_secret("a", 1)).destroyed
        assert new.wrapped_key not in on_disk(state)


# Rebuilding by a temporary file.


@contextmanager
def no_more_files() -> Iterator[None]:
    """No file can be opened: what SQLite meets where it may write in no directory, which root always may."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def large(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteBackend]:
    """A store that is larger than SQLite's cache, and too large to be rebuilt in memory."""
    monkeypatch.setattr("keyholt_agent.store.sqlite.database.SMALL_REBUILD", 0)
    monkeypatch.setattr("keyholt_agent.store.sqlite.database.PRAGMAS", (*PRAGMAS, "cache_size=4"))
    with unsealed(state) as backend:
        backend.run([PutSecret(path="large", new=version(1, value=bytes(200_000)))])[0].unwrap()
        yield backend


def test_no_place_for_a_temporary_file_is_no_fault(state: Path, large: SqliteBackend) -> None:
    """The purge is in force, its rebuild owed; the store serves on. What is destroyed meanwhile is gone."""
    backend = large
    new = version(1)
    for path in "ac":
        backend.run([PutSecret(path=path, new=new if path == "c" else version(1))])[0].unwrap()
    with no_more_files():
        with pytest.raises(ErasureOwedError):
            backend.run([PurgeSecret(path="a")])[0].unwrap()
        assert not backend.faulty
        backend.run([PutSecret(path="d", new=version(1))])[0].unwrap()
        backend.run([DestroyVersion(path="c", version=1)])[0].unwrap()
        backend._next_rebuild = 0.0
        backend.maintain()
    assert not backend.faulty
    assert backend._rebuild_owed
    assert new.wrapped_key not in on_disk(state)
    backend._next_rebuild = 0.0
    backend.maintain()
    assert not backend._rebuild_owed
    assert (state / "store.db-wal").stat().st_size == 0


def test_the_temporary_file_lies_beside_the_store(state: Path, large: SqliteBackend) -> None:
    """In the one directory that the agent can write for sure; no name of it is left."""
    backend = large
    backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
    before, seen = sorted(os.listdir(state)), set[str]()

    def look() -> int:
        for handle in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                seen.add(os.readlink(f"/proc/self/fd/{handle}"))
        return 0

    connection = backend._usable().connection
    connection.set_progress_handler(look, 10)
    backend.run([PurgeSecret(path="a")])[0].unwrap()
    connection.set_progress_handler(None, 10)
    found = {os.path.dirname(name) for name in seen if "etilqs" in name}
    assert found == {str(state)}
    assert sorted(os.listdir(state)) == before


def test_a_refused_purge_rebuilds_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was overwritten, so neither the store is written anew nor its log; a destroy never rebuilds."""
    rebuilt: list[Database] = []

    def rebuild(self: Database) -> None:
        rebuilt.append(self)

    monkeypatch.setattr(Database, "rebuild", rebuild)
    with unsealed(state) as backend:
        for path in "ab":
            backend.run([PutSecret(path=path, new=version(1))])[0].unwrap()
        log = (state / "store.db-wal").stat().st_size
        for asked, refusal in (
            (PurgeSecret(path="none"), NotFoundError),
            (PurgeSecret(path="a", latest=2), HeadMovedError),
            (DestroyVersion(path="a", version=2), NotFoundError),
        ):
            with pytest.raises(refusal):
                backend.run([asked])[0].unwrap()
        assert (rebuilt, (state / "store.db-wal").stat().st_size) == ([], log)
        refused, done = backend.run([PurgeSecret(path="none"), DestroyVersion(path="b", version=1)])
        done.unwrap()
        with pytest.raises(NotFoundError):
            refused.unwrap()
        assert rebuilt == []
        backend.run([PurgeSecret(path="a")])[0].unwrap()
        assert len(rebuilt) == 1


@pytest.mark.parametrize("forged", ["'text'", "7"])
def test_forged_metadata_is_not_purged(state: Path, forged: str) -> None:
    """It is damage, as everywhere: neither a defect nor overwritten."""
    with unsealed(state) as backend:
        backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
        query(backend, f"UPDATE secret_version SET metadata = {forged}")
        before = everything(backend)
        with pytest.raises(IntegrityError):
            backend.run([PurgeSecret(path="a")])[0].unwrap()
        assert everything(backend) == before
