"""The state directory: its modes, its lock, and what happens when files vanish under a running agent."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.store import CreateStore, PutSecret, StoreBusyError, open_store
from keyholt_agent.store.sqlite.backend import SqliteBackend
from keyholt_protocol.errors import StoreUnavailableError
from tests.agent.store.builders import Keeper, Latest, head, make_store, opened, seed, version

if TYPE_CHECKING:
    from pathlib import Path

OVERRIDES = "-dac_override,-dac_read_search"
BOUND_BY_MODES = (
    ("setpriv", f"--bounding-set={OVERRIDES}", f"--inh-caps={OVERRIDES}") if os.geteuid() == 0 else ()
)
"""What makes permission bits bind a program: root gives up capabilities (by util-linux's setpriv)."""


def mode(path: Path) -> int:
    """The permission bits of ``path``."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_everything_is_for_the_owner_alone(tmp_path: Path, umask: int) -> None:
    """Directory 0700, files 0600, whatever the umask."""
    state = tmp_path / "state"
    previous = os.umask(umask)
    try:
        async with open_store(state) as store:
            await store.ask(CreateStore(seed=seed(), keeper=Keeper()))
            await store.ask(PutSecret(path="a", new=version(1)))
            files = {path.name: mode(path) for path in state.iterdir()}
    finally:
        os.umask(previous)
    assert mode(state) == 0o700
    assert files == {"store.lock": 0o600, "store.db": 0o600, "store.db-wal": 0o600}


async def test_a_second_agent_is_refused(state: Path) -> None:
    """One directory has one agent; when that one is gone the next may have it."""
    async with open_store(state):
        with pytest.raises(StoreBusyError, match="another agent uses"):
            async with open_store(state):
                pass
    async with open_store(state) as store:
        assert store.initialised


async def test_a_second_agent_is_refused_before_there_is_a_store(tmp_path: Path) -> None:
    """The directory is claimed, not the file."""
    async with open_store(tmp_path / "state"):
        with pytest.raises(StoreBusyError):
            async with open_store(tmp_path / "state"):
                pass


async def test_a_lock_file_that_was_removed_does_not_let_a_second_agent_in(state: Path) -> None:
    """SQLite's own lock holds where somebody tidied the lock file away; nothing is lost by the attempt."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=version(1)))
        (state / "store.lock").unlink()
        answer = await trio.to_thread.run_sync(open_elsewhere, state)
        assert "StoreBusyError" in answer
        await store.ask(PutSecret(path="a", new=version(2)))
    async with opened(state) as store:
        assert (await head(store, "a")).latest == 2


def open_elsewhere(state: Path, *prefix: str) -> str:
    """Open the store in another process, or make one; it prints "open", or the refusal and its class."""
    program = (
        "import sys, pathlib\n"
        "from keyholt_agent.store.sqlite.backend import SqliteBackend\n"
        "from keyholt_agent.store.commands import CreateStore\n"
        "from tests.agent.store.builders import Keeper, seed\n"
        "backend = SqliteBackend(pathlib.Path(sys.argv[1]))\n"
        "try:\n"
        "    backend.start()\n"
        "    if not backend.initialised:\n"
        "        backend.run([CreateStore(seed=seed(), keeper=Keeper())])[0].unwrap()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "else:\n"
        "    print('open')\n"
        "    backend.stop()\n"
    )
    run = subprocess.run(
        [*prefix, sys.executable, "-c", program, state],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return run.stdout


@pytest.mark.parametrize("what", ["nothing", "lock", "store"])
def test_a_read_only_directory_is_refused_with_the_remedy(tmp_path: Path, what: str) -> None:
    """Nothing of it may be written, whatever there is already."""
    state = tmp_path / "state"
    make_store(state)
    if what != "store":
        (state / "store.db").unlink()
    if what == "nothing":
        (state / "store.lock").unlink()
    state.chmod(0o500)
    try:
        sentence = open_elsewhere(state, *BOUND_BY_MODES)
    finally:
        state.chmod(0o700)
    assert sentence.startswith("StoreUnavailableError")
    assert "may not write" in sentence
    assert str(state) in sentence
    # The control: as soon as it may be written, all is well.
    assert open_elsewhere(state, *BOUND_BY_MODES) == "open\n"


async def test_a_store_removed_under_the_agent(state: Path) -> None:
    """Writes and reads are refused with the remedy, nothing is acknowledged, and putting it back heals."""
    latest = Latest()
    async with opened(state, latest) as store:
        await store.ask(PutSecret(path="a", new=(first := version(1))))
        (state / "store.db").rename(state / "aside")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="removed or replaced under the running agent"):
                await store.ask(PutSecret(path="a", new=version(2)))
        assert not latest.rows
        with pytest.raises(StoreUnavailableError, match="removed or replaced"):
            await store.read_secret("a", None)
        (state / "aside").rename(state / "store.db")
        backend_of(store)._next_recovery = 0.0
        assert (await store.read_secret("a", 1)).value == first.value
        await store.ask(PutSecret(path="b", new=version(1)))
    async with opened(state) as store:
        assert (await store.read_secret("a", 1)).value == first.value


def backend_of(store: object) -> SqliteBackend:
    """The backend behind a store."""
    backend = store._backend  # type: ignore[attr-defined]
    assert isinstance(backend, SqliteBackend)
    return backend


async def test_a_store_replaced_under_the_agent_is_not_taken_for_it(state: Path, pristine: Path) -> None:
    """Another file of the same name is refused, and not written to, until the agent is restarted."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=version(1)))
        (state / "store.db").rename(state / "aside")
        shutil.copy(pristine / "store.db", state / "store.db")
        other = (state / "store.db").read_bytes()
        with pytest.raises(StoreUnavailableError, match="removed or replaced"):
            await store.ask(PutSecret(path="a", new=version(2)))
        backend_of(store)._next_recovery = 0.0
        with pytest.raises(StoreUnavailableError, match="removed or replaced"):
            await head(store, "a")
        assert (state / "store.db").read_bytes() == other
    async with opened(state) as store:
        assert (await head(store, "a")).latest == 0


async def test_a_log_removed_under_the_agent_loses_nothing_acknowledged(state: Path) -> None:
    """The request that notices fails; what was acknowledged before is brought into the store."""
    async with opened(state) as store:
        news = {f"a/{index}": version(1) for index in range(20)}
        for path, new in news.items():
            await store.ask(PutSecret(path=path, new=new))
        (state / "store.db-wal").unlink()
        with pytest.raises(StoreUnavailableError, match="removed or replaced"):
            await store.ask(PutSecret(path="b", new=version(1)))
        for path, new in news.items():
            assert (await store.read_secret(path, None)).value == new.value
        await store.ask(PutSecret(path="c", new=version(1)))
    async with opened(state) as store:
        for path, new in news.items():
            assert (await store.read_secret(path, None)).value == new.value


async def test_the_whole_directory_removed_under_the_agent(state: Path) -> None:
    """Refused as well, and closing does not fail."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=version(1)))
        shutil.rmtree(state)
        with pytest.raises(StoreUnavailableError):
            await store.ask(PutSecret(path="a", new=version(2)))
        with pytest.raises(StoreUnavailableError):
            await head(store, "a")
