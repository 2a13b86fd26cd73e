"""A disk that is full or fails: nothing is acknowledged that is not there, and the agent goes on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from keyholt_protocol.limits import MAX_REQUEST_HEADER
from tests.support.agent_process import PASSPHRASE, hurried, poll
from tests.support.faults import Fault, injected, traceable
from tests.support.ledger import Ledger
from tests.support.wire import ClosedError, WireError

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess
    from tests.support.wire import WireClient

KIBIBYTE: Final = 1024

# Gives the agent a disk of its own, small and half full; it goes with the agent.
SMALL_DISK: Final = (
    'mount -t tmpfs -o size=4m,mode=700 tmpfs "$0" && head -c 1048576 /dev/zero > "$0/filler" && exec "$@"'
)


def fill(client: WireClient, ledger: Ledger) -> str:
    """Write until there is no room; the sentence with which it ends."""
    for number in range(2000):
        try:
            ledger.put(client, f"fill/{number % 50}", os.urandom(8 * KIBIBYTE))
        except WireError as error:
            assert error.code == "store_unavailable"  # noqa: PT017 (the code is what is checked)
            return str(error)
    raise AssertionError("the disk was never full")


def test_full_disk(agent: AgentProcess) -> None:
    """What was acknowledged is there, reading goes on, and once there is room again so does writing."""
    agent.state.mkdir()
    unshare = (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    agent.wrapper = [*unshare, "--", "sh", "-c", SMALL_DISK, str(agent.state)]
    agent.start_new()
    ledger = Ledger()
    with agent.connect() as client:
        assert "no room to write" in fill(client, ledger)
        assert "free some disk space" in fill(client, ledger)
        before = len(ledger.acknowledged)
        assert before > 50
        ledger.check(client)
        assert client.status()["state"] == "unlocked"
        assert client.call("agent.lock").code == ""
        client.call("agent.unlock", PASSPHRASE).expect()
        ledger.check(client)
        Path(f"/proc/{client.status()['pid']}/root{agent.state}/filler").unlink()
        for _ in range(20):
            ledger.put(client, "after", os.urandom(8 * KIBIBYTE))
        ledger.check(client, newest=len(ledger.acknowledged))


def test_limit_on_file_size(agent: AgentProcess) -> None:
    """At a limit on the size of files no signal ends the agent, writes fail by name, and nothing is lost."""
    agent.wrapper = ["prlimit", f"--fsize={600 * KIBIBYTE}", "--"]
    agent.start_new()
    ledger = Ledger()
    with agent.connect() as client:
        assert "store_unavailable" in fill(client, ledger)
        assert "store_unavailable" in fill(client, ledger)
        assert client.status()["pid"] == agent.pid
    assert len(ledger.acknowledged) > 20
    agent.stop()
    agent.wrapper = []
    agent.start_unlocked()
    with agent.connect() as client:
        ledger.check(client, newest=len(ledger.acknowledged))
        ledger.put(client, "after", b"room again")


CREATION: Final = [("pwrite64", 1), ("pwrite64", 5), ("fsync", 1), ("fsync", 2), ("rename", 1), ("openat", 1)]


@pytest.mark.parametrize("call, count", CREATION)
def test_creation_that_fails(agent: AgentProcess, call: str, count: int) -> None:
    """A store that cannot be made is not there afterwards, in whole or in part; the next attempt makes it."""
    agent.wrapper = traceable()
    agent.start()
    fault = Fault(call, count, "error=EIO")
    with agent.connect() as client:
        with injected(agent.pid, fault, agent.home / "trace"):
            reply = client.call("store.init", PASSPHRASE)
        assert fault.injected
        assert reply.code == "store_unavailable"
        assert client.status()["state"] == "uninitialised"
        assert client.status()["memory_used"] == MAX_REQUEST_HEADER
        assert not [file.name for file in agent.state.iterdir() if file.name.startswith("store.db")]
        client.call("store.init", PASSPHRASE).expect()
        client.put("a", b"v")


@pytest.mark.parametrize("call, count", [("pwrite64", 3), ("fsync", 1), ("rename", 1), ("fsync", 2)])
def test_creation_that_is_killed(agent: AgentProcess, call: str, count: int) -> None:
    """A kill leaves no store or a whole one."""
    agent.wrapper = traceable()
    with hurried(agent):
        agent.start()
        fault = Fault(call, count, "signal=KILL")
        with (
            agent.connect() as client,
            pytest.raises(ClosedError),
            injected(agent.pid, fault, agent.home / "trace"),
        ):
            client.call("store.init", PASSPHRASE)
        agent.kill()
        agent.start()
        with agent.connect() as client:
            if client.status()["state"] == "uninitialised":
                client.call("store.init", PASSPHRASE).expect()
            else:
                client.call("agent.unlock", PASSPHRASE).expect()
            client.put("a", b"v")
        assert {file.name for file in agent.state.iterdir()} <= {"store.db", "store.db-wal", "store.lock"}


def test_directory_that_turns_read_only(agent: AgentProcess) -> None:
    """The files that are open go on being written; what cannot be done is refused by name."""
    agent.start_new()
    with agent.connect() as client:
        client.put("a", b"v")
        agent.state.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert client.call("secret.put", b"w", path="a").code in {"", "store_unavailable"}
        assert client.get("a") in {b"v", b"w"}
        agent.state.chmod(0o700)
        poll(lambda: client.call("secret.put", b"x", path="a").code == "")
