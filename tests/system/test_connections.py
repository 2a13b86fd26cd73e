"""Peers of a real agent that take and give nothing back: idle, silent, many, or not allowed at all."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent_process import poll
from tests.support.other_server import reachable
from tests.support.unharmed import ARENA, KEPT, KEPT_PATH, admits, check_serves, unharmed
from tests.support.users import NOBODY, need_other_uids, need_readable_interpreter
from tests.support.wire import request_frame

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

MEBIBYTE: Final = 1024 * 1024

# Connects, says hello, and prints the first reply's bytes; runs as another user.
STRANGER: Final = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
except BrokenPipeError:
    pass
os.write(1, s.recv(65536))
"""


def test_unharmed_notices_what_is_held(shared: AgentProcess) -> None:
    """The check of these tests, tried: a connection left open and a value written are both found out."""
    with ExitStack() as stack, pytest.raises(AssertionError, match="before"), unharmed(shared, patience=0.2):
        stack.enter_context(shared.connect())
    with (
        shared.connect() as client,
        pytest.raises(AssertionError, match="before"),
        unharmed(shared, patience=0.2),
    ):
        client.put("more", b"value")


def test_stalled_peers_keep_nobody_waiting(shared: AgentProcess) -> None:
    """Peers that stop in every part of a frame: the others are served as if they were not there."""
    whole = request_frame(2, "secret.put", {"path": "stalled"}, b"v" * 5000)
    with unharmed(shared, growth=ARENA), ExitStack() as stack:
        for size in (0, 1, 7, 8, 9, 20, len(whole) - 5000, len(whole) - 1):
            stack.enter_context(shared.connect()).send(whole[:size])
        for _ in range(10):
            check_serves(shared)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("size", [60_000, MEBIBYTE // 2, MEBIBYTE])
def test_peer_that_never_reads(shared: AgentProcess, size: int, *, cached: bool) -> None:
    """It asks for much and takes nothing: it holds a bounded part of locked memory, and others are served.

    Values that are not the newest have to be read from the store: then requests are under way at once.
    """
    path = f"big/{size}"
    with shared.connect() as client:
        if size * 32 > client.status()["memory_size"]:
            pytest.skip(f"values of {size} bytes need more than this RLIMIT_MEMLOCK allows: run it as root")
        version = client.put(path, os.urandom(size))
        if not cached:
            client.put(path, b"newer")
    with unharmed(shared, growth=ARENA), ExitStack() as stack:
        for _ in range(3):
            silent = stack.enter_context(shared.connect())
            for _ in range(64):
                silent.request("secret.get", {"path": path, "version": version})
        for _ in range(20):
            assert check_serves(shared)["memory_used"] < ARENA // 2
        with shared.connect() as reader:
            assert len(reader.get(path, version=version)) == size


@pytest.mark.parametrize("cached", [True, False])
def test_reader_that_asks_for_much_gets_all(shared: AgentProcess, *, cached: bool) -> None:
    """Fifty fetches of a mebibyte in one breath, more than locked memory holds, all answered in full."""
    value, path = os.urandom(MEBIBYTE), f"all/{cached}"
    with shared.connect() as client:
        client.put(path, value)
        if not cached:
            client.put(path, b"newer")
    with unharmed(shared, growth=ARENA), shared.connect() as client:
        ids = [client.request("secret.get", {"path": path, "version": 1}) for _ in range(50)]
        assert all(client.reply_to(one).expect().payload == value for one in ids)


def test_thousand_connections(shared: AgentProcess) -> None:
    """A thousand open ones are served; so are later clients, and everything is given back in the end."""
    with unharmed(shared, growth=64 * MEBIBYTE), ExitStack() as stack:
        clients = [stack.enter_context(shared.connect()) for _ in range(1000)]
        assert clients[-1].status()["connections"] == 1000
        assert clients[0].get(KEPT_PATH) == clients[-1].get(KEPT_PATH) == KEPT


def test_connections_beyond_the_limit(stopped: AgentProcess) -> None:
    """One more than allowed is refused by name; once one has closed, the next is served."""
    stopped.config += "[listen.unix]\nmax_connections = 8\n"
    stopped.start_unlocked()
    with unharmed(stopped):
        poll(lambda: check_serves(stopped)["connections"] == 1)
        with ExitStack() as stack:
            first, *_ = [stack.enter_context(stopped.connect()) for _ in range(8)]
            for _ in range(50):
                with stopped.connect(greet=False) as late:
                    (reply,) = late.farewell()
                    assert (reply.id, reply.code) == (0, "resource_exhausted")
            assert first.get(KEPT_PATH) == KEPT
            first.close()
            poll(lambda: admits(stopped))


def test_descriptors_that_run_out(stopped: AgentProcess) -> None:
    """A low limit on open files bounds the connections below it: the store's descriptors are never taken."""
    stopped.wrapper = ("prlimit", "--nofile=90", "--")
    stopped.start_unlocked()
    with unharmed(stopped, same_files=False), ExitStack() as stack:
        clients = [stack.enter_context(stopped.connect(greet=False)) for _ in range(60)]
        assert clients[0].call("session.hello", version=1).code == ""
        clients[0].put("while/full", b"v")
        assert clients[-1].farewell()[0].code == "resource_exhausted"
        clients[0].call("secret.delete", path="while/full").expect()
        assert not admits(stopped)


def test_peer_that_shuts_one_side(shared: AgentProcess) -> None:
    """A peer that has said all it will say still gets its answers."""
    with unharmed(shared), shared.connect() as client:
        ids = [client.request("secret.get", {"path": KEPT_PATH}), client.request("agent.status", {})]
        client.socket.shutdown(socket.SHUT_WR)
        assert {reply.id for reply in client.farewell()} == set(ids)


def test_peer_that_resets_while_it_is_answered(shared: AgentProcess) -> None:
    """Gone with requests under way of every kind: reads, writes and answers half sent."""
    with shared.connect() as client:
        client.put("big/reset", os.urandom(MEBIBYTE))
    with unharmed(shared, growth=ARENA, same_files=False):
        for _ in range(20):
            with shared.connect() as client:
                for _ in range(5):
                    client.request("secret.get", {"path": "big/reset"})
                    client.request("secret.put", {"path": "reset"}, b"v")
                    client.request("secret.history", {"path": "reset"})


def as_stranger(agent: AgentProcess, *, groups: str = "--clear-groups", gid: int = NOBODY) -> bytes:
    """What the agent says to a client of another user."""
    need_other_uids()
    need_readable_interpreter()
    hello = request_frame(1, "session.hello", {"version": 1}).hex()
    return subprocess.run(
        [
            "setpriv", f"--reuid={NOBODY}", f"--regid={gid}", groups,
            sys.executable, "-c", STRANGER, agent.socket_path, hello,
        ],
        capture_output=True, check=True, timeout=30,
    ).stdout  # fmt: skip


def test_other_uid_is_denied(stopped: AgentProcess) -> None:
    """Even where the socket lets everybody connect, only the own uid and root are served."""
    stopped.config += '[listen.unix]\nmode = "0666"\n'
    stopped.start_unlocked()
    reachable(stopped.home / "run")
    with unharmed(stopped):
        answer = as_stranger(stopped)
    assert b"denied" in answer
    assert b"does not serve uid 65534" in answer
    assert "denied a connection of uid 65534" in stopped.log


def test_allowed_uid_is_served(agent: AgentProcess) -> None:
    """A uid that the configuration names is served, and so is root."""
    agent.config += '[listen.unix]\nmode = "0666"\nallow_uids = [65534]\n'
    agent.start()
    reachable(agent.home / "run")
    assert b"max_in_flight" in as_stranger(agent)


def test_own_uid_and_root_are_served(agent: AgentProcess) -> None:
    """An agent of an ordinary user serves root too, who could have the memory anyway."""
    need_other_uids()
    need_readable_interpreter()
    reachable(agent.home)
    for folder in (agent.home, agent.home / "run", agent.state):
        folder.mkdir(exist_ok=True)
        os.chown(folder, NOBODY, NOBODY)
    agent.wrapper = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    agent.start_new()
    assert b"max_in_flight" in as_stranger(agent)
    assert pwd.getpwuid(agent.store.stat().st_uid).pw_uid == NOBODY


def test_agent_of_a_user_believes_nobody_else(agent: AgentProcess) -> None:
    """An ordinary user's agent: configuration, socket and store in a third user's directory are refused."""
    need_other_uids()
    need_readable_interpreter()
    reachable(agent.home)
    agent.command()  # writes the configuration
    theirs = agent.home / "theirs"
    for folder in (agent.home, agent.home / "run", agent.state, theirs):
        folder.mkdir(exist_ok=True)
        os.chown(folder, NOBODY, NOBODY)
    os.chown(theirs, 4711, 4711)
    theirs.chmod(0o777)
    agent.wrapper = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    sentence = f"{theirs} belongs to uid 4711, who could put something else in its place: chown it to root or"
    state, path = agent.state, agent.socket_path
    agent.state = theirs / "state"
    assert f"the state directory cannot be used: {sentence} uid {NOBODY}" in agent.refusal()
    agent.state, agent.socket_path = state, theirs / "agent.sock"
    assert f"the socket's directory cannot be used: {sentence}" in agent.refusal()
    agent.socket_path = path
    (agent.home / "agent.toml").chmod(0o666)
    assert "the configuration cannot be believed: others may write to" in agent.refusal()
    (agent.home / "agent.toml").chmod(0o644)
    assert list(theirs.iterdir()) == []
    agent.start()  # the control: root's configuration, its own directories


@pytest.mark.parametrize("how", ["primary", "supplementary"])
def test_group_is_served(agent: AgentProcess, how: str) -> None:
    """Members of the configured group come through directory and socket, and are served."""
    need_other_uids()
    agent.config += '[listen.unix]\nmode = "0660"\ngroup = "daemon"\n'
    agent.start()
    reachable(agent.home)
    group = grp.getgrnam("daemon").gr_gid
    if how == "primary":
        answer = as_stranger(agent, gid=group)
    else:
        answer = as_stranger(agent, groups=f"--groups={group}")
    assert b"max_in_flight" in answer
