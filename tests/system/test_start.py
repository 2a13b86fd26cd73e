"""What keeps an agent from starting: one sentence with the cause and the remedy, and nothing changed."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent_process import PASSPHRASE, AgentProcess, hurried, poll, wait_ended
from tests.support.prepared import Preparation, PreparedAgent
from tests.support.unharmed import unharmed
from tests.support.users import without_privileges
from tests.support.wire import WireClient

if TYPE_CHECKING:
    from pathlib import Path

# Passes a listening socket on as descriptor 3, the way a service manager does, and becomes the agent.
ACTIVATOR: Final = """
import os, socket, sys
kind, path, *command = sys.argv[1:]
if kind == "listening":
    s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()
elif kind == "connected":
    s, other = socket.socketpair()
elif kind == "tcp":
    s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
else:
    s = open("/dev/null")
fd = os.dup(s.fileno()); s.close()
if fd != 3:
    os.dup2(fd, 3, inheritable=True); os.close(fd)
else:
    os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(command[0], command)
"""


def test_too_little_locked_memory(installed: AgentProcess) -> None:
    """A limit too low for locked memory: refused with the limit, and with what to set it to."""
    installed.wrapper = [*without_privileges(), "prlimit", "--memlock=65536", "--"]
    sentence = installed.refusal()
    assert "RLIMIT_MEMLOCK is 65536 bytes" in sentence
    assert "LimitMEMLOCK=" in sentence
    assert not installed.socket_path.exists()


def test_small_limit_on_locked_memory_is_used(installed: AgentProcess) -> None:
    """A limit that is low but enough gives a small arena, not a refusal."""
    installed.wrapper = [*without_privileges(), "prlimit", "--memlock=2097152", "--"]
    installed.start()
    with installed.connect() as client:
        assert 1024 * 1024 <= client.status()["memory_size"] <= 2 * 1024 * 1024


@pytest.mark.parametrize(
    "config, sentence",
    [
        ("[unlock]\nidle_timout = 5", "is not a setting; the nearest is 'unlock.idle_timeout'"),
        ("[listen.unix]\nmod = '0600'", "'listen.unix.mod' is not a setting; the nearest is"),
        ("[listen.unix]\ngroup = 'no-such-group'", "there is no group 'no-such-group'"),
        ("[memory]\nsize = 4096", "`[memory] size` is 4096 bytes, less than the"),
    ],
)  # fmt: skip
def test_configuration_error(agent: AgentProcess, config: str, sentence: str) -> None:
    """Named by its key, with the nearest known one; the agent does not start on a guess."""
    agent.config = config
    assert sentence in agent.refusal()
    assert not agent.socket_path.exists()


def test_second_agent_on_the_store(shared: AgentProcess, tmp_path: Path, preparation: Preparation) -> None:
    """One store, one agent: the second is refused, and the first notices nothing."""
    second = PreparedAgent(tmp_path, preparation=preparation)
    second.state = shared.state
    with unharmed(shared):
        assert "another agent uses" in second.refusal()
    assert not second.socket_path.exists()


def test_second_agent_on_the_socket(shared: AgentProcess, tmp_path: Path, preparation: Preparation) -> None:
    """A live socket is never taken away, with the lock on it and without."""
    lock, aside = shared.socket_path.with_name("agent.sock.lock"), tmp_path / "aside"
    second = PreparedAgent(tmp_path, preparation=preparation)
    second.socket_path = shared.socket_path
    with unharmed(shared):
        assert "another process serves" in second.refusal()
    lock.rename(aside)
    try:
        with unharmed(shared):
            assert "another process serves" in second.refusal()
    finally:
        aside.rename(lock)


def test_signal_is_heard_as_soon_as_the_socket_is_there(installed: AgentProcess) -> None:
    """Whoever sees the agent serve may tell it to end: it cleans up, and is not killed by the signal.

    Its log is a pipe that takes nothing more, so that it stands where it says that it serves.
    """
    log = installed.home / "log"
    os.mkfifo(log)
    full = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while os.write(full, bytes(4096)):
                pass
        process = installed.launch()
        poll(installed.socket_path.exists)
        process.send_signal(signal.SIGTERM)
        with suppress(BlockingIOError):
            while os.read(full, 65536):
                pass
        assert wait_ended(process) == 0
    finally:
        os.close(full)
        installed.kill()
    assert not installed.socket_path.exists()


def test_stale_socket_is_replaced(stopped: AgentProcess) -> None:
    """What a killed agent left is no obstacle to the next one."""
    stopped.start()
    stopped.kill()
    assert stat.S_ISSOCK(stopped.socket_path.stat().st_mode)
    stopped.start()
    with stopped.connect() as client:
        assert client.status()["state"] == "locked"
    stopped.stop()
    assert not stopped.socket_path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_no_socket_at_the_path_is_kept(agent: AgentProcess, kind: str) -> None:
    """Anything that is no socket is left alone, and said to be in the way."""
    agent.socket_path.parent.mkdir(mode=0o700)
    if kind == "file":
        agent.socket_path.write_text("precious")
    elif kind == "directory":
        agent.socket_path.mkdir()
    else:
        agent.socket_path.symlink_to("elsewhere")
    assert "exists and is not a socket" in agent.refusal()
    assert os.path.lexists(agent.socket_path)
    if kind == "file":
        assert agent.socket_path.read_text() == "precious"


def test_socket_and_its_directory_are_guarded(installed: AgentProcess) -> None:
    """Both are the owner's alone, whatever the umask was."""
    installed.wrapper = ("sh", "-c", 'umask 000; exec "$@"', "sh")
    installed.start_new()
    assert stat.S_IMODE(installed.socket_path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(installed.socket_path.stat().st_mode) == 0o600
    for file in (installed.state, *installed.state.iterdir()):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077, file


def test_directory_that_others_write_to(agent: AgentProcess) -> None:
    """Somebody else could put a socket of their own there: refused."""
    agent.socket_path.parent.mkdir()
    agent.socket_path.parent.chmod(0o777)
    assert f"others may write to {agent.socket_path.parent} (mode 0777): chmod go-w" in agent.refusal()


def test_socket_path_too_long(agent: AgentProcess, tmp_path: Path) -> None:
    """Refused by its length, not cut off."""
    agent.socket_path = tmp_path / ("x" * 120) / "agent.sock"
    assert "longer than 107 bytes" in agent.refusal()


@pytest.mark.parametrize("place", ["state", "socket"])
def test_read_only_directory(agent: AgentProcess, place: str) -> None:
    """A directory that cannot be written: named, with what to do."""
    folder = agent.state if place == "state" else agent.socket_path.parent
    folder.mkdir()
    folder.chmod(0o500)
    agent.wrapper = without_privileges()
    sentence = agent.refusal()
    assert str(folder) in sentence
    assert "permission" in sentence.lower()
    folder.chmod(0o700)


def test_store_in_a_read_only_directory(stopped: AgentProcess) -> None:
    """A store that can be read but not written is refused; nothing in it changes."""
    before = stopped.store.read_bytes()
    stopped.store.chmod(0o400)
    (stopped.state / "store.lock").chmod(0o400)
    stopped.state.chmod(0o500)
    stopped.wrapper = without_privileges()
    assert "may not write" in stopped.refusal()
    stopped.state.chmod(0o700)
    assert stopped.store.read_bytes() == before


def test_store_that_may_only_be_read(stopped: AgentProcess) -> None:
    """A store whose file alone is read-only: named with what to do, and no talk of a broken disk."""
    before = stopped.store.read_bytes()
    stopped.store.chmod(0o400)
    stopped.wrapper = without_privileges()
    sentence = stopped.refusal()
    assert sentence.startswith(f"the agent may not write {stopped.store} ")
    assert sentence.endswith("let its user write there and in the directory")
    assert stopped.store.read_bytes() == before


def test_stores_that_are_none(stopped: AgentProcess) -> None:
    """A foreign file and half of a store: each is told apart, and kept."""
    whole = stopped.store.read_bytes()
    for data, sentence in (
        (b"A letter to my bank." * 500, "not an SQLite database"),
        (whole[: len(whole) // 2], "cut short"),
    ):
        stopped.store.write_bytes(data)
        assert sentence in stopped.refusal()
        assert stopped.store.read_bytes() == data


def test_store_of_a_newer_format(stopped: AgentProcess) -> None:
    """Refused with the format that it has, and unchanged."""
    with sqlite3.connect(stopped.store) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    before = stopped.store.read_bytes()
    assert "has format '9999', newer than this program" in stopped.refusal()
    assert stopped.store.read_bytes() == before
    assert len(stopped.log.splitlines()) == 1  # alembic, which knows the formats, has not said a word


def activated(agent: AgentProcess, kind: str) -> AgentProcess:
    """An agent that is passed a descriptor when it starts."""
    agent.wrapper = [sys.executable, "-c", ACTIVATOR, kind, str(agent.home / "passed.sock")]
    return agent


def test_inherited_socket(installed: AgentProcess) -> None:
    """A listening socket that a service manager passes on is served, and left where it is."""
    activated(installed, "listening").start()
    with WireClient(installed.home / "passed.sock") as client:
        client.call("store.init", PASSPHRASE).expect()
        assert client.status()["state"] == "unlocked"
        greeting = client.greeting
        assert "features" not in greeting  # a socket that hands out connections was not passed on
    assert not installed.socket_path.exists()
    installed.stop()
    assert (installed.home / "passed.sock").exists()


@pytest.mark.parametrize(
    "kind, sentence",
    [("connected", "not a listening Unix"), ("tcp", "not a listening Unix"), ("file", "is not a socket")],
)
def test_inherited_descriptor_that_is_no_listener(agent: AgentProcess, kind: str, sentence: str) -> None:
    """Anything else that is passed on is refused by its number."""
    assert sentence in activated(agent, kind).refusal()


def test_environment_meant_for_another(installed: AgentProcess) -> None:
    """LISTEN_FDS for another process is not taken for one's own."""
    installed.environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    installed.start()
    assert installed.socket_path.exists()


def test_socket_that_is_busy_is_live(agent: AgentProcess) -> None:
    """A process that listens and is too busy to accept is not taken for dead."""
    agent.socket_path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(agent.socket_path))
        busy.listen(0)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(str(agent.socket_path))
            second.setblocking(False)
            second.connect_ex(str(agent.socket_path))
            assert "another process serves" in agent.refusal()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--passphrase=x"], "unrecognized arguments: --passphrase=x"),
        (["--socket", ""], "argument --socket: the path is empty; give one, or leave the option out"),
        (["--state-dir="], "argument --state-dir: the path is empty"),
        (["--config", ""], "argument --config: the path is empty"),
    ],
)
def test_usage(installed: AgentProcess, words: list[str], said: str) -> None:
    """An argument that there is not, or an empty path, which is no place: exit status 2."""
    with hurried(installed):
        outcome = subprocess.run(
            [*installed.command(), *words], capture_output=True, check=False, text=True, timeout=30, env={},
        )  # fmt: skip
    assert (outcome.returncode, said in outcome.stderr) == (2, True)
