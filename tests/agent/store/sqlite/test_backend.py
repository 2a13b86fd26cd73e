"""Faults at every write, fsync and rename: a crash, a failing disk, a full one.

The disk is "full" through an injected ENOSPC, the very answer of a full file system, which root and an
ordinary user can both arrange; a real limit of the system (RLIMIT_FSIZE) stands beside it.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.store import CreateStore, DestroyVersion, PutSecret, commands, key_commands, path_commands
from keyholt_agent.store.commands import ReadSecret
from keyholt_agent.store.key_commands import Cover, PutInForce
from keyholt_agent.store.sqlite.backend import ANSWERS
from keyholt_agent.store.sqlite.database import LOG_LIMIT
from keyholt_protocol.errors import IntegrityError, NotFoundError
from tests.agent.store.builders import NEW_ROOT, Keeper, running, seed, unseal, unsealed, version
from tests.agent.store.sqlite.faults import FaultyProcess, Step, everywhere

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from keyholt_agent.store.sqlite.backend import SqliteBackend

CREATE = [("create",)]
PUT = [("put", "b"), ("read", "a"), ("put", "c")]
NEW, WRITTEN_OVER = (), (("fill", "large"), ("put", "small"))
"""What was done before: nothing, or enough for the log to be written over from its beginning."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Generator[FaultyProcess, None, None]:
    """The process that the faults strike."""
    with FaultyProcess(tmp_path_factory.mktemp("faults")) as started:
        yield started


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """State directories without a store."""
    return (tmp_path / str(index) for index in count())


@pytest.fixture
def stores(pristine: Path, tmp_path: Path) -> Iterator[Path]:
    """State directories with a store in which ``a`` was written and acknowledged."""
    shutil.copytree(pristine, tmp_path / "first")
    with unsealed(tmp_path / "first") as backend:
        backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
    return (shutil.copytree(tmp_path / "first", tmp_path / str(index)) for index in count())


def paths(directory: Path) -> set[str]:
    """Which of the paths of these tests the store holds, found whole when it is opened anew.

    Whatever struck it: its pages are sound, and its rows come to what was sealed with the last of them.
    """
    with unsealed(directory) as backend:
        return {path for path in "abc" if holds(backend, path)}


def holds(backend: SqliteBackend, path: str) -> bool:
    """Whether ``path`` can be read."""
    try:
        backend.run([ReadSecret(path=path, version=None)])[0].unwrap()
    except NotFoundError:
        return False
    return True


def is_whole_or_absent(directory: Path) -> bool:
    """Whether there is a store; whatever is there lets one be made, or is one."""
    with running(directory) as backend:
        present = backend.initialised
        if present:
            unseal(backend)
        else:
            backend.run([CreateStore(seed=seed(), keeper=Keeper())])[0].unwrap()
        backend.run([PutSecret(path="a", new=version(1))])[0].unwrap()
    left = {path.name for path in directory.iterdir()}
    assert left == {"store.db", "store.lock"}
    return present


def test_every_command_has_an_answer() -> None:
    """But creation, which makes what all others work on, and those that are about the backend's own keys."""
    classes = {
        found
        for module in (commands, key_commands, path_commands)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, commands.Command) and not found.__subclasses__()
    }
    assert classes - set(ANSWERS) == {CreateStore, Cover, PutInForce}
    assert set(ANSWERS) < classes


def test_a_creation_killed_anywhere_leaves_no_store_or_a_whole_one(
    process: FaultyProcess, empty: Iterator[Path]
) -> None:
    """SIGKILL at every call that changes the disk."""
    struck: dict[str, int] = {}
    outcomes: set[bool] = set()
    for call in ("openat", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink"):
        for directory, run in everywhere(process, empty, CREATE, f"{call}:signal=KILL"):
            assert run.status == signal.SIGKILL
            outcomes.add(is_whole_or_absent(directory))
            struck[call] = struck.get(call, 0) + 1
    # Were a call missing here, the faults would not have struck where they should.
    assert {"openat", "pwrite64", "fsync", "rename"} <= struck.keys()
    assert struck["pwrite64"] > 10
    assert outcomes == {False, True}


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_creation_that_fails_anywhere_leaves_nothing(
    process: FaultyProcess, empty: Iterator[Path], error: str
) -> None:
    """A disk that fails once, or is full: the caller is told, and can simply try again."""
    for call in ("pwrite64", "fsync", "rename"):
        struck = 0
        for directory, run in everywhere(process, empty, CREATE, f"{call}:error={error}"):
            assert "StoreUnavailableError" in run.steps[0]
            assert ("no room" in run.steps[0]) == (error == "ENOSPC" and "SQLITE_IOERR" not in run.steps[0])
            assert {path.name for path in directory.iterdir()} == {"store.lock"}
            assert not is_whole_or_absent(directory)
            struck += 1
        assert struck


@pytest.mark.parametrize("log", [NEW, WRITTEN_OVER], ids=["new", "written over"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_put_that_fails_anywhere_is_not_acknowledged(
    process: FaultyProcess, stores: Iterator[Path], call: str, log: Sequence[Step]
) -> None:
    """After a failed write or fsync the store is reopened, whole, and serves on."""
    struck = 0
    for directory, run in everywhere(process, stores, PUT, f"{call}:error=EIO", log):
        put, read, later = run.steps
        if put == "None":
            break  # from here on it strikes a later put, or closing
        assert "StoreUnavailableError" in put
        assert "SQLITE_IOERR" in put
        assert (read, later) == ("None", "None")
        assert run.faulty == [False, False, False]
        assert {"a", "c"} <= paths(directory)
        struck += 1
    assert struck


def test_a_put_into_a_full_disk_is_not_acknowledged(process: FaultyProcess, stores: Iterator[Path]) -> None:
    """The sentence says what is wrong; reading goes on, and so does writing once there is room."""
    struck = 0
    for directory, run in everywhere(process, stores, PUT, "pwrite64:error=ENOSPC"):
        put, read, later = run.steps
        if put == "None":
            break
        assert "no room to write" in put
        assert (read, later) == ("None", "None")
        assert paths(directory) == {"a", "c"}
        struck += 1
    assert struck > 2


def test_a_disk_that_stays_full_lets_reads_pass(process: FaultyProcess, stores: Iterator[Path]) -> None:
    """Every put fails, every read succeeds, until there is room."""
    steps = [("put", "b"), ("read", "a"), ("put", "b"), ("read", "a"), ("wait",), ("put", "b")]
    directory = next(stores)
    run = process.run(directory, steps, "pwrite64:error=ENOSPC:when=1+")
    refused = ["no room" in step for step in run.steps]
    assert refused == [True, False, True, False, False]
    assert run.steps[-1] == "None"
    assert paths(directory) == {"a", "b"}


def test_a_disk_that_stays_broken_is_waited_for(process: FaultyProcess, stores: Iterator[Path]) -> None:
    """While fsync fails nothing is acknowledged, nor read; when it works again the store recovers."""
    steps = [("put", "b"), ("put", "c"), ("wait",), ("read", "a"), ("put", "c")]
    directory = next(stores)
    run = process.run(directory, steps, "fdatasync:error=EIO:when=1+")
    assert ["StoreUnavailableError" in step for step in run.steps] == [True, True, False, False]
    assert run.steps[2:] == ["None", "None"]
    assert {"a", "c"} <= paths(directory)


@pytest.mark.parametrize("log", [NEW, WRITTEN_OVER], ids=["new", "written over"])
def test_a_put_killed_anywhere_loses_nothing_acknowledged(
    process: FaultyProcess, stores: Iterator[Path], log: Sequence[Step]
) -> None:
    """SIGKILL at every write and fsync of a put, and of what follows it; what was reported is there."""
    for call in ("pwrite64", "fdatasync", "ftruncate"):
        struck = 0
        for directory, run in everywhere(process, stores, PUT, f"{call}:signal=KILL", log):
            acknowledged = {"a"} | {
                path for path, step in zip("bac", run.steps, strict=False) if step == "None"
            }
            assert acknowledged <= paths(directory)
            struck += 1
        assert struck


def test_a_destruction_killed_or_failing_anywhere_can_be_repeated(
    process: FaultyProcess, stores: Iterator[Path]
) -> None:
    """Unacknowledged it may have happened or not; the store is whole, and again is no error."""
    for fault in ("pwrite64:signal=KILL", "fdatasync:error=EIO", "ftruncate:error=EIO"):
        struck = 0
        for directory, run in everywhere(process, stores, [("destroy", "a")], fault):
            assert paths(directory) == {"a"}
            again = process.run(directory, [("destroy", "a"), ("read", "a")], "swapon:error=EIO")
            assert again.steps == ["None", "None"]
            assert paths(directory) == {"a"}
            struck += run.injected
        assert struck


def test_a_new_root_killed_or_failing_anywhere_is_in_force_or_not(
    process: FaultyProcess, stores: Iterator[Path]
) -> None:
    """The store is whole under the one's keys or the other's, never under both; and it goes on with them."""
    outcomes: set[bool] = set()
    for fault in (
        "pwrite64:signal=KILL",
        "fdatasync:signal=KILL",
        "fdatasync:error=EIO",
        "pwrite64:error=ENOSPC",
    ):
        struck = 0
        for directory, run in everywhere(process, stores, [("rekey",), ("put", "c")], fault):
            new, old = unseals(directory, Keeper(NEW_ROOT)), unseals(directory, Keeper())
            assert new != old
            if run.steps[:1] == ["None"]:
                assert new  # what was acknowledged stays
            # After a failure nobody may know which are in force; but that is no damage.
            assert not any("IntegrityError" in step for step in run.steps)
            outcomes.add(new)
            struck += run.injected
        assert struck
    assert outcomes == {False, True}


def unseals(directory: Path, keeper: Keeper) -> bool:
    """Whether a store is whole by a keeper's keys."""
    with running(directory) as backend:
        try:
            unseal(backend, keeper)
        except IntegrityError:
            return False
        backend.run([PutSecret(path="d", new=version(1, master=2))])
        unseal(backend, keeper)
        return True


def test_every_commit_waits_for_the_disk_once(process: FaultyProcess, stores: Iterator[Path]) -> None:
    """A put costs one fdatasync; 64 together cost one; with a planted bug, which this notices, none."""

    def calls(*steps: tuple[str, ...]) -> int:
        return process.run(next(stores), steps, "fdatasync:error=EIO:when=65535").calls

    alone = calls(("put", "b"))

    def syncs(*steps: tuple[str, ...]) -> int:
        return calls(("put", "b"), *steps) - alone

    assert syncs(("put", "c")) == 1
    assert syncs(("put", "c"), ("put", "d"), ("put", "e")) == 3
    assert syncs(("puts", "64")) == 1
    assert syncs(("careless",), ("put", "c")) < 1


def test_the_log_is_written_over_once_it_was_brought_in(state: Path) -> None:
    """A commit that finds room in it makes it no longer; one that needs more does, and that is taken back."""
    log = state / "store.db-wal"

    def put(path: str, size: int) -> int:
        backend.run([PutSecret(path=path, new=version(1, value=bytes(size)))])[0].unwrap()
        backend.maintain()
        return log.stat().st_size

    with unsealed(state) as backend:
        assert 0 < put("a", 100) < put("b", 100)  # a new log grows with each commit
        assert put("large", LOG_LIMIT) > LOG_LIMIT
        assert {put(f"c/{number}", 100) for number in range(20)} == {LOG_LIMIT}
        assert put("large/2", 2 * LOG_LIMIT) > 2 * LOG_LIMIT
        backend.run([ReadSecret(path="a", version=None)])[0].unwrap()
        assert {put(f"d/{number}", 100) for number in range(20)} == {LOG_LIMIT}
        backend.run([DestroyVersion(path="a", version=1)])[0].unwrap()
        assert log.stat().st_size == 0


def test_a_store_that_acknowledged_early_would_be_caught(
    process: FaultyProcess, stores: Iterator[Path]
) -> None:
    """The positive control of the crash tests: a planted bug loses a write that was reported."""
    lost = 0
    for directory, run in everywhere(process, stores, [("boast", "b")], "pwrite64:signal=KILL"):
        assert run.steps == ["None"]
        lost += "b" not in paths(directory)
    assert lost


def test_a_file_size_limit_is_a_full_disk_to_the_caller(state: Path) -> None:
    """A real limit: the put that passes it is refused, what was written stays, and smaller ones pass."""
    program = (
        "import resource, sys, trio, pathlib\n"
        "from keyholt_agent.store import PutSecret\n"
        "from keyholt_protocol.errors import StoreUnavailableError\n"
        "from tests.agent.store.builders import opened, version\n"
        "async def main():\n"
        "    async with opened(pathlib.Path(sys.argv[1])) as store:\n"
        "        await store.ask(PutSecret(path='a', new=version(1)))\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "        try:\n"
        "            await store.ask(PutSecret(path='b', new=version(1, value=bytes(1_000_000))))\n"
        "        except StoreUnavailableError as error:\n"
        "            print(error)\n"
        "        await store.ask(PutSecret(path='c', new=version(1)))\n"
        "        print((await store.read_secret('a', None)).version)\n"
        "trio.run(main)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    run = subprocess.run(
        [sys.executable, "-c", program, state], capture_output=True, text=True, check=True, timeout=60
    )
    sentence, version_read = run.stdout.splitlines()
    assert "failed" in sentence
    assert version_read == "1"
    assert paths(state) == {"a", "c"}
