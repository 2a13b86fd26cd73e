"""A path with all its versions: moved or copied whole or not at all, purged without a trace."""

from __future__ import annotations

import os
import random
import shutil
from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from keyholt_agent.store import (
    AddMasterVersion,
    CopySecret,
    DeleteSecret,
    DestroyVersion,
    ErasureOwedError,
    Head,
    HeadMovedError,
    ListSecrets,
    MasterRetiredError,
    MoveSecret,
    PurgeSecret,
    PutSecret,
    ReadHistory,
)
from keyholt_agent.store.commands import CountSecrets, ReadSecret
from keyholt_agent.store.sqlite import sql
from keyholt_agent.store.sqlite.database import Database
from keyholt_protocol.errors import AlreadyExistsError, LockedError, NotFoundError
from tests.agent.store.builders import CREATED, MASTER, Keeper, master, resealed, running, unsealed, version
from tests.agent.store.sqlite.behind import everything, query
from tests.agent.store.sqlite.faults import FaultyProcess, Step, everywhere
from tests.agent.store.sqlite.test_erasure import on_disk
from tests.agent.store.sqlite.writes import adds_up

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from keyholt_agent.store import NewVersion, Resealed, SecretVersion
    from keyholt_agent.store.sqlite.backend import SqliteBackend


def history() -> dict[int, NewVersion]:
    """Three versions that are like no others."""
    return {number: version(number, value=os.urandom(300), metadata=os.urandom(40)) for number in (1, 2, 3)}


VERSIONS: Final = {"a": history(), "b": history()}


def fill(backend: SqliteBackend) -> None:
    """``a`` with three versions, the second destroyed; ``b``, likewise and deleted."""
    for path in "ab":
        for new in VERSIONS[path].values():
            backend.run([PutSecret(path=path, new=new)])[0].unwrap()
        backend.run([DestroyVersion(path=path, version=2)])[0].unwrap()
    backend.run([DeleteSecret(path="b", deleted_at=CREATED + 7)])[0].unwrap()


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """A backend that takes writes, filled."""
    with unsealed(state) as backend:
        fill(backend)
        yield backend


def story(backend: SqliteBackend, path: str) -> list[object] | None:
    """Where a path stands, and its versions with their metadata; None if it was never written."""
    try:
        head, found = backend.run([ReadHistory(path=path, before=None, limit=10)])[0].unwrap()
    except NotFoundError:
        return None
    return [head, *((one.version, one.metadata, one.destroyed) for one in found)]


def flipped(data: bytes) -> bytes:
    """What ``resealed`` makes of a key or a value."""
    return bytes(byte ^ 1 for byte in data)


@pytest.mark.parametrize("path", ["a", "b"])
@pytest.mark.parametrize("command", [MoveSecret, CopySecret])
def test_the_whole_history_goes_along(
    backend: SqliteBackend, command: type[MoveSecret | CopySecret], path: str
) -> None:
    """Numbers, metadata, tombstone and what is destroyed; every other version sealed anew, all adding up."""
    before = story(backend, path)
    seen: list[int] = []

    def reseal(stored: SecretVersion) -> Resealed:
        new = VERSIONS[path][stored.version]
        assert (stored.wrapped_key, stored.value) == (new.wrapped_key, new.value)
        seen.append(stored.version)
        return resealed(stored)

    assert backend.run([command(path=path, to="new/c", reseal=reseal)])[0].unwrap() == 3
    assert seen == [1, 3]
    assert story(backend, "new/c") == before
    assert story(backend, path) == (None if command is MoveSecret else before)
    assert adds_up(backend, Keeper())
    if path == "a":
        for number in (1, 3):
            stored = backend.run([ReadSecret(path="new/c", version=number)])[0].unwrap()
            assert stored is not None
            assert stored.value == flipped(VERSIONS[path][number].value)
            assert stored.wrapped_key == flipped(VERSIONS[path][number].wrapped_key)
    created = [row["created"] for row in query(backend, "SELECT created FROM secret_version")]
    assert set(created) == {CREATED}
    # What is free can be written, as the first of its kind, and what was moved goes on.
    backend.run([PutSecret(path="new/c", new=version(4))])[0].unwrap()
    if command is MoveSecret:
        backend.run([PutSecret(path=path, new=version(1))])[0].unwrap()
    assert adds_up(backend, Keeper())


@pytest.mark.parametrize("to", ["a", "b", "live"])
@pytest.mark.parametrize("command", [MoveSecret, CopySecret])
def test_what_is_there_is_never_written_over(
    backend: SqliteBackend, command: type[MoveSecret | CopySecret], to: str
) -> None:
    """Itself, a deleted secret or a live one: refused, and nothing is sealed."""
    backend.run([PutSecret(path="live", new=version(1))])[0].unwrap()
    before = everything(backend)
    with pytest.raises(AlreadyExistsError, match="purge that first"):
        backend.run([command(path="a", to=to, reseal=never)])[0].unwrap()
    with pytest.raises(NotFoundError, match="no secret 'none'"):
        backend.run([command(path="none", to="c", reseal=never)])[0].unwrap()
    assert everything(backend) == before


def never(stored: SecretVersion) -> Resealed:
    """Seals nothing."""
    raise AssertionError("nothing is to be sealed")


@pytest.mark.parametrize("command", [MoveSecret, CopySecret])
def test_what_is_refused_midway_is_taken_back(
    backend: SqliteBackend, command: type[MoveSecret | CopySecret]
) -> None:
    """Whatever was written before; others that are asked together with it are none the worse."""
    before = everything(backend)

    def locked(stored: SecretVersion) -> Resealed:
        if stored.version == 3:
            raise LockedError
        return resealed(stored)

    for reseal, refusal in ((locked, LockedError), (lambda one: resealed(one, 2), MasterRetiredError)):
        with pytest.raises(refusal):
            backend.run([command(path="a", to="c", reseal=reseal)])[0].unwrap()
        assert everything(backend) == before
    both = [command(path="a", to=to, reseal=reseal) for to, reseal in (("c", locked), ("d", resealed))]
    refused, done = backend.run(both)
    with pytest.raises(LockedError):
        refused.unwrap()
    assert done.unwrap() == 3
    assert (story(backend, "c"), adds_up(backend, Keeper())) == (None, True)


def test_only_the_active_master_key_may_have_wrapped(backend: SqliteBackend) -> None:
    """The one that was replaced meanwhile is not to wrap any more."""
    backend.run([AddMasterVersion(row=master(2), retire=(MASTER, 1))])[0].unwrap()
    with pytest.raises(MasterRetiredError):
        backend.run([MoveSecret(path="a", to="c", reseal=resealed)])[0].unwrap()
    backend.run([MoveSecret(path="a", to="c", reseal=lambda one: resealed(one, 2))])[0].unwrap()


@pytest.mark.parametrize("path", ["a", "b"])
def test_a_purged_path_never_was(backend: SqliteBackend, path: str) -> None:
    """No history, no entry, not counted; written again it begins at 1. Others stay, and all adds up."""
    other = {"a": "b", "b": "a"}[path]
    before = story(backend, other)
    assert backend.run([PurgeSecret(path=path)])[0].unwrap() == 3
    with pytest.raises(NotFoundError):
        backend.run([PurgeSecret(path=path)])[0].unwrap()
    assert story(backend, path) is None
    assert story(backend, other) == before
    counts = backend.run([CountSecrets()])[0].unwrap()
    assert counts.paths - counts.deleted == (path == "b")
    listed = backend.run([ListSecrets(prefix="", after=None, limit=10)])[0].unwrap()
    assert [one.path for one in listed.secrets] == ([] if path == "a" else ["a"])
    assert adds_up(backend, Keeper())
    backend.run([PutSecret(path=path, new=version(1))])[0].unwrap()
    assert story(backend, path) == [Head(latest=1, deleted_at=None), (1, b"metadata 1", False)]
    assert adds_up(backend, Keeper())


def test_a_purge_on_condition(backend: SqliteBackend) -> None:
    """Another version than the one named is the latest: nothing is purged, and the refusal says which."""
    before = everything(backend)
    for path in "ab":
        with pytest.raises(HeadMovedError) as refused:
            backend.run([PurgeSecret(path=path, latest=2)])[0].unwrap()
        assert refused.value.newest.head.latest == 3
    assert everything(backend) == before
    assert backend.run([PurgeSecret(path="a", latest=3)])[0].unwrap() == 3


def test_many_purged_ones_hide_nothing(backend: SqliteBackend) -> None:
    """They stand behind all others, so that a listing reads them last, and some of them at most."""
    for outcome in backend.run([PutSecret(path=f"p/{n}", new=version(1)) for n in range(1_100)]):
        outcome.unwrap()
    backend.run([PutSecret(path="\U0001f511", new=version(1))])[0].unwrap()
    for outcome in backend.run([PurgeSecret(path=f"p/{n}") for n in range(1_100)]):
        outcome.unwrap()
    page = backend.run([ListSecrets(prefix="", after=None, limit=10)])[0].unwrap()
    assert ([one.path for one in page.secrets], page.scanned_to) == (["a", "\U0001f511"], None)


# What is left of a purged path: nothing.


def grown(state: Path) -> tuple[list[bytes], list[bytes]]:
    """A store that grew and shrank in every way; paths, metadata, keys of what is live and purged then."""
    chance = random.Random(1)
    latest: dict[str, int] = {}
    told: dict[str, list[bytes]] = {}
    with unsealed(state) as backend:
        assert backend._database is not None
        backend._database.pragma("synchronous=OFF")  # for speed: what is written where does not depend on it
        for turn in range(400):
            path = f"{chance.randrange(130):03}/{'x' * chance.randrange(40)}/path"
            latest[path] = number = latest.get(path, 0) + 1
            new = told_version(number, chance)
            told.setdefault(path, [path.encode()]).extend((new.metadata, new.wrapped_key))
            backend.run([PutSecret(path=path, new=new)])[0].unwrap()
            if turn % 3 == 0:
                backend.run([DestroyVersion(path=path, version=number)])[0].unwrap()
                told[path].pop()
            if turn % 5 == 0:
                backend.run([DeleteSecret(path=path, deleted_at=CREATED)])
        purged = chance.sample(sorted(told), len(told) // 3)
        for outcome in backend.run([PurgeSecret(path=path) for path in purged]):
            outcome.unwrap()
    dead = [part for path in purged for part in told.pop(path)]
    return [part for parts in told.values() for part in parts], dead


def told_version(number: int, chance: random.Random) -> NewVersion:
    """A version whose labels and key are nowhere else."""
    value = chance.randbytes(chance.choice([50, 300, 2000, 9000]))
    return version(
        number, value=value, metadata=chance.randbytes(chance.randrange(20, 90)), key=chance.randbytes(60)
    )


def test_no_trace_of_a_purged_path_is_left_in_the_files(state: Path) -> None:
    """Path, metadata, wrapped keys, in no page and no unused part of one; of all others all is there."""
    live, dead = grown(state)
    disk = on_disk(state)
    assert [part for part in live if part not in disk] == []
    assert [part for part in dead if part in disk] == []


def test_overwriting_alone_would_leave_traces(state: Path) -> None:
    """The control, and why the store is rebuilt: SQLite leaves copies of cells behind where it moves them."""
    chance = random.Random(1)
    live: list[tuple[int | None, str]] = []
    dead: list[bytes] = []
    with unsealed(state) as backend:
        database = backend._usable()
        with database.transaction() as connection:
            for number in range(6_000):
                kind = chance.random()
                if live and kind < 0.3:
                    row, path = live.pop(chance.randrange(len(live)))
                    connection.execute(sql.RENAME, {"row": row, "new_path": f"purged {number}"})
                    dead.append(path[:16].encode())
                elif live and kind < 0.6:
                    row, _ = chance.choice(live)
                    connection.execute(sql.ADVANCE, {"row": row, "new_latest": chance.choice([1, 2, 300])})
                else:
                    path = chance.randbytes(8).hex() + "x" * chance.choice([0, 480])
                    added = connection.execute(sql.ADD_SECRET, {"path": path, "latest": 1})
                    live.append((added.lastrowid, path))
        database.checkpoint(clear=True)
        disk = on_disk(state)
        left = [path for path in dead if path in disk]
        assert left != []
        database.rebuild()
        database.checkpoint(clear=True)
        disk = on_disk(state)
        assert [path for path in left if path in disk] == []
        assert all(path.encode() in disk for _, path in live[:100])


def test_a_rebuild_that_is_owed_is_made_up_for(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for it: the caller is told, and it is tried again; after a restart too."""
    full = Full()
    monkeypatch.setattr(Database, "rebuild", full.rebuild)
    with unsealed(state) as backend:
        fill(backend)
        with pytest.raises(ErasureOwedError):
            backend.run([PurgeSecret(path="a")])[0].unwrap()
        assert story(backend, "a") is None
        assert not backend.faulty
        for _ in range(3):
            backend.maintain()  # not at once again
        assert full.tries == 1
        backend._next_rebuild = 0.0
        backend.maintain()
        assert full.tries == 2
    monkeypatch.undo()
    with running(state) as backend:
        assert backend._rebuild_owed
        backend.maintain()
        assert not backend._rebuild_owed
    with running(state) as backend:
        assert not backend._rebuild_owed


class Full:
    """Stands for a database that there is no memory to rebuild."""

    def __init__(self) -> None:
        self.tries = 0

    def rebuild(self) -> None:
        self.tries += 1
        raise MemoryError


@pytest.mark.parametrize("small", [0, 2**40])
def test_a_rebuilt_store_is_the_same_store(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    """In memory or by a temporary file: every row as it was, and its pragmas."""
    monkeypatch.setattr("keyholt_agent.store.sqlite.database.SMALL_REBUILD", small)
    before = everything(backend)
    database = backend._usable()
    pragmas = [
        database.pragma(name) for name in ("temp_store", "journal_mode", "synchronous", "secure_delete")
    ]
    database.rebuild()
    database.checkpoint(clear=True)
    assert everything(backend) == before
    assert pragmas == [
        database.pragma(name) for name in ("temp_store", "journal_mode", "synchronous", "secure_delete")
    ]
    assert adds_up(backend, Keeper())


# Faults and kills.


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Generator[FaultyProcess, None, None]:
    """The process that the faults strike."""
    with FaultyProcess(tmp_path_factory.mktemp("faults")) as started:
        yield started


@pytest.fixture
def stores(pristine: Path, tmp_path: Path) -> Iterator[Path]:
    """State directories with a filled store."""
    shutil.copytree(pristine, tmp_path / "first")
    with unsealed(tmp_path / "first") as backend:
        fill(backend)
    return (shutil.copytree(tmp_path / "first", tmp_path / str(index)) for index in count())


TOLD: Final = [
    Head(latest=3, deleted_at=None),
    *((number, VERSIONS["a"][number].metadata, number == 2) for number in (3, 2, 1)),
]
"""The story of ``a`` from the beginning."""

ENDS: Final[dict[Step, tuple[object, object]]] = {
    ("move", "a", "c"): (None, TOLD),
    ("copy", "a", "c"): (TOLD, TOLD),
    ("purge", "a"): (None, None),
}
"""The stories of ``a`` and ``c`` when a step was taken."""


@pytest.mark.parametrize("step", ENDS, ids=lambda step: step[0])
def test_killed_or_failing_anywhere_it_is_done_or_not(
    process: FaultyProcess, stores: Iterator[Path], step: Step
) -> None:
    """What was acknowledged for good; and what was purged leaves no trace, though it was cut short."""
    outcomes: set[bool] = set()
    for fault in ("pwrite64:signal=KILL", "fdatasync:error=EIO", "pwrite64:error=ENOSPC"):
        for directory, run in everywhere(process, stores, [step], fault):
            with unsealed(directory) as backend:
                backend.maintain()
                stories = story(backend, "a"), story(backend, "c")
                assert adds_up(backend, Keeper())
            assert stories in ((TOLD, None), ENDS[step])
            done = stories == ENDS[step]
            assert done or run.steps[:1] != ["None"]
            if done and step[0] != "copy":
                disk = on_disk(directory)
                assert [n for n, new in VERSIONS["a"].items() if new.wrapped_key in disk] == []
                assert step[0] == "move" or VERSIONS["a"][3].metadata not in disk
            outcomes.add(done)
    assert outcomes == {False, True}
