"""Locking and unlocking a real agent: by itself, under load, and with the state that a restart finds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from keyholt_protocol.limits import MAX_REQUEST_HEADER
from tests.support.agent_process import PASSPHRASE, poll
from tests.support.unharmed import KEPT, KEPT_PATH

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

BIG: Final = 1024 * 1024
"""Bytes of a value that no socket takes whole."""


def test_idle_agent_locks_itself(stopped: AgentProcess) -> None:
    """At the time that is configured, without a request; being asked for its state does not count as use."""
    stopped.config += "idle_timeout = 1\n"
    stopped.start_unlocked()
    with stopped.connect() as client:

        def locked() -> bool:
            status = client.status()
            assert status["state"] == "locked" or status["idle_lock_in"] <= 1
            return bool(status["state"] == "locked")

        poll(locked)
        assert client.status()["locked_because"] == "idle"
        assert client.call("secret.get", path=KEPT_PATH).code == "locked"
        assert client.status()["memory_used"] == MAX_REQUEST_HEADER
        assert client.status().get("cache_used", 0) == 0

        def fetched() -> bool:
            client.call("agent.unlock", PASSPHRASE).expect()
            reply = client.call("secret.get", path=KEPT_PATH)
            assert reply.code in {"", "locked"}  # a second may pass between the two on a busy machine
            return reply.payload == KEPT

        poll(fetched)


def test_locked_agent_delivers_nothing(stopped: AgentProcess) -> None:
    """A value that is half taken ends there, with its connection; its memory is back before the answer."""
    stopped.start_unlocked()
    with stopped.connect() as reader, stopped.connect() as client:
        client.put("big", os.urandom(BIG))
        reader.request("secret.get", {"path": "big"})
        poll(lambda: client.status()["memory_used"] > BIG)
        client.call("agent.lock").expect()
        assert client.status()["memory_used"] == MAX_REQUEST_HEADER
        taken = 0
        while data := reader.socket.recv(BIG):
            taken += len(data)
        assert 0 < taken < BIG
        poll(lambda: client.status()["connections"] == 1)


def test_agent_that_stops_delivers_nothing(stopped: AgentProcess) -> None:
    """Told to end, it waits for nobody who has half a value."""
    stopped.start_unlocked()
    with stopped.connect() as reader, stopped.connect() as client:
        client.put("big", os.urandom(BIG))
        reader.request("secret.get", {"path": "big"})
        poll(lambda: client.status()["memory_used"] > BIG)
        stopped.stop()
        taken = 0
        while data := reader.socket.recv(BIG):
            taken += len(data)
        assert 0 < taken < BIG


def test_restart_finds_it_locked(agent: AgentProcess) -> None:
    """Keys live in memory only: after a restart the passphrase is needed, and then everything is there."""
    agent.start_new()
    with agent.connect() as client:
        client.put("a", b"v", labels={"k": "v"})
    agent.stop()
    agent.start()
    with agent.connect() as client:
        assert client.call("secret.get", path="a").code == "locked"
        assert client.call("secret.list").code == "locked"
        assert client.call("slot.remove", PASSPHRASE, name="passphrase").code == "locked"
        assert client.call("agent.unlock", b"wrong").code == "unlock_failed"
        client.call("agent.unlock", PASSPHRASE).expect()
        assert client.call("secret.get", path="a").expect().result["labels"] == {"k": "v"}


def test_before_there_is_a_store(agent: AgentProcess) -> None:
    """Everything but status, hello and creation says that there is none."""
    agent.start()
    with agent.connect() as client:
        assert client.status()["state"] == "uninitialised"
        for op in ("agent.unlock", "agent.lock", "slot.list", "secret.list"):
            assert client.call(op, b"x" if op == "agent.unlock" else b"").code == "uninitialised"
        for op in ("secret.get", "secret.put", "secret.history", "secret.delete"):
            assert client.call(op, path="a").code == "uninitialised"
        assert client.call("store.init", b"").code == "invalid_request"
        client.call("store.init", PASSPHRASE).expect()


def test_creation_by_several_at_once(agent: AgentProcess) -> None:
    """One of them makes the store; the others are told that it is there."""
    agent.start()
    clients = [agent.connect() for _ in range(4)]
    ids = [client.request("store.init", {}, b"passphrase %d" % n) for n, client in enumerate(clients)]
    codes = [client.reply_to(one).code for client, one in zip(clients, ids, strict=True)]
    assert sorted(codes) == ["", *["already_exists"] * 3]
    winner = codes.index("")
    clients[0].call("agent.lock").expect()
    assert clients[0].call("agent.unlock", b"passphrase %d" % (winner - 1)).code == "unlock_failed"
    clients[0].call("agent.unlock", b"passphrase %d" % winner).expect()
    for client in clients:
        client.close()
