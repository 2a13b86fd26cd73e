"""What the blocking client does when a connection breaks, an agent misbehaves, or there is none."""

from __future__ import annotations

import math
import posix
import select
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import keyholt
from keyholt import invocations
from keyholt.address import SYSTEM_SOCKET
from keyholt.connecting import no_socket, to_start
from keyholt.exchange import Exchange
from keyholt.invocations import Invocation
from keyholt.polling import Poller
from keyholt_protocol.errors import (
    AgentUnreachableError,
    LockedError,
    ResourceExhaustedError,
)
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.messages import SecretPutResult
from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.scripted import (
    GOT,
    PATIENCE,
    VALUE,
    Peer,
    ScriptedAgent,
    serve_one,
    take_one_and_go,
)

POLL = select.poll


def test_a_repeatable_call_is_repeated_once(tmp_path: Path) -> None:
    """A get whose connection broke before the answer is made again on a new one, and only once."""
    with (
        ScriptedAgent(tmp_path / "s", take_one_and_go, serve_one) as agent,
        keyholt.connect(agent.address) as client,
    ):
        assert client.get("a").bytes == VALUE
        assert agent.connections == 2
    twice = (take_one_and_go, take_one_and_go)
    with ScriptedAgent(tmp_path / "t", *twice) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(AgentUnreachableError, match=r"broke before it answered secret\.get"):
            client.get("a")
        assert agent.connections == 2


def test_a_write_that_may_have_happened_is_not_repeated(tmp_path: Path) -> None:
    """A put whose connection broke after it was sent is an error that says that it may have happened."""
    with (
        ScriptedAgent(tmp_path / "s", take_one_and_go, serve_one) as agent,
        keyholt.connect(agent.address) as client,
    ):
        with pytest.raises(AgentUnreachableError, match="may or may not have been carried out"):
            client.put("a", VALUE)
        assert agent.connections == 1
        assert client.get("a").bytes == VALUE


def test_a_write_that_was_not_sent_is_repeated(own_agent: RunningAgent) -> None:
    """After a restart of the agent the first write finds the old connection closed and goes out on a new
    one, where it is answered: the agent is locked.
    """
    with keyholt.connect(own_agent.address) as client:
        client.init(passphrase=PASSPHRASE)
        own_agent.restart()
        with pytest.raises(LockedError):
            client.put("a", VALUE)


def test_what_the_agent_says_of_the_connection_is_raised(tmp_path: Path) -> None:
    """An error without a request, said before the agent closes, reaches the caller."""

    def full(peer: Peer) -> None:
        peer.request()
        peer.fail(None, ResourceExhaustedError("too many connections"))

    with (
        ScriptedAgent(tmp_path / "s", full) as agent,
        pytest.raises(ResourceExhaustedError, match="too many"),
    ):
        keyholt.connect(agent.address)


def test_an_idle_connection_that_was_closed_with_a_word_is_replaced(tmp_path: Path) -> None:
    """An agent may close an idle connection and say why; the next call goes out on a new one."""
    closed = threading.Event()

    def idle(peer: Peer) -> None:
        peer.greet()
        peer.fail(None, ResourceExhaustedError("idle for too long"))
        peer.sock.close()
        closed.set()

    def write(peer: Peer) -> None:
        peer.greet()
        request, payload = peer.request()
        assert payload == VALUE
        peer.answer(request, SecretPutResult(version=1, created=1))

    with ScriptedAgent(tmp_path / "s", idle, write) as agent, keyholt.connect(agent.address) as client:
        assert closed.wait(10)
        assert client.put("a", VALUE).version == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"\0\0\0\0\0\0\0\0",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\0\0\0\1\0\0\0\0\xc0",
        b"\0\0\0\1\xff\0\0\0\x80",
        b"\0\0\0\x0e\0\0\0\0\x83\xa2id\x01\xa2ok\xc3\xa6result",
    ],
)
def test_what_breaks_the_protocol_is_named(tmp_path: Path, reply: bytes) -> None:
    """Bytes that no agent sends are an error that says so, not a hang or another exception."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply)

    expected = pytest.raises(AgentUnreachableError, match=r"broke the protocol|broke before")
    with ScriptedAgent(tmp_path / "s", script) as agent, expected:
        keyholt.connect(agent.address)


@pytest.mark.parametrize(
    "payload,result", [(b"", {"versions": 1}), (b"", {}), (b"x", {"version": 1, "created": 1})]
)
def test_a_result_of_another_shape_is_named(
    tmp_path: Path, payload: bytes, result: dict[str, object]
) -> None:
    """A result with unknown or missing fields, or with a payload where there is none, ends the connection."""

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        peer.send(peer._connection.send_result(request.id, result, len(payload)) + payload)

    expected = pytest.raises(AgentUnreachableError, match="broke the protocol")
    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client, expected:
        client.put("a", VALUE)


def test_an_agent_that_does_not_greet_has_a_deadline(tmp_path: Path) -> None:
    """A connection that is accepted and not answered fails after the time given."""
    let_go = threading.Event()

    def script(peer: Peer) -> None:
        let_go.wait(20)

    with ScriptedAgent(tmp_path / "s", script) as agent:
        try:
            with pytest.raises(AgentUnreachableError, match="does not answer"):
                keyholt.connect(agent.address, timeout=0.05)
        finally:
            let_go.set()


def test_addresses_without_an_agent(tmp_path: Path) -> None:
    """Each reason why nobody answers has its own sentence."""
    with pytest.raises(AgentUnreachableError, match=r"there is no socket at .*keyholt-agent"):
        keyholt.connect(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    with pytest.raises(AgentUnreachableError, match="nobody listens"):
        keyholt.connect(str(tmp_path / "file"))
    with pytest.raises(AgentUnreachableError, match=r"\(Not a directory\); give the path of its socket"):
        keyholt.connect(str(tmp_path / "file" / "s"))


def test_a_remedy_leads_to_an_agent_that_clients_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody serves, the places that were looked at are named, and how an agent is started there: by
    itself it takes this user's usual place, and has none without ``XDG_RUNTIME_DIR``, but as root.
    """
    itself = "start the agent with `keyholt-agent`, or give its --address"
    own = f"{tmp_path}/keyholt/agent.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert no_socket(SYSTEM_SOCKET) == f"there is no socket at {own}, nor at {SYSTEM_SOCKET}"
    assert (to_start(SYSTEM_SOCKET), to_start(own)) == (itself, itself)
    elsewhere = "start the agent with `keyholt-agent --socket '/a b/s'`, or give its --address"
    assert to_start("/a b/s") == elsewhere
    with pytest.raises(AgentUnreachableError) as caught:
        keyholt.connect(own)
    assert str(caught.value) == f"{no_socket(own)}; {itself}"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("keyholt.address.RUNTIME_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert (no_socket(SYSTEM_SOCKET), to_start(SYSTEM_SOCKET)) == (
        f"there is no socket at {SYSTEM_SOCKET}",
        itself,
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert to_start(SYSTEM_SOCKET).startswith(
        "XDG_RUNTIME_DIR is not set: start the agent with `keyholt-agent -"
    )
    login = tmp_path / str(posix.geteuid())
    login.mkdir()
    place = f"{login}/keyholt/agent.sock"
    there = f"start the agent with `keyholt-agent --socket {place}`, or give its --address"
    assert (to_start(SYSTEM_SOCKET), to_start(place)) == (there, there)
    assert no_socket(SYSTEM_SOCKET) == f"there is no socket at {place}, nor at {SYSTEM_SOCKET}"


class InterruptedPoll:
    """``select.poll`` during whose first wait a real SIGINT arrives: at that very place, in every run."""

    pending = True

    def __init__(self) -> None:
        self._poll = POLL()

    def register(self, descriptor: int, events: int) -> None:
        self._poll.register(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        if InterruptedPoll.pending:
            InterruptedPoll.pending = False
            signal.raise_signal(signal.SIGINT)
        return self._poll.poll(timeout)


def test_an_interrupted_call_leaves_the_connection_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KeyboardInterrupt while waiting leaves the late answer to be received, and discarded, by the next
    call.
    """
    interrupted = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        late, _ = peer.request()
        assert interrupted.wait(PATIENCE)
        peer.answer(late, GOT, b"late")
        request, _ = peer.request()
        peer.answer(request, GOT, VALUE)

    monkeypatch.setattr(InterruptedPoll, "pending", False)
    monkeypatch.setattr(select, "poll", InterruptedPoll)
    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        monkeypatch.setattr(InterruptedPoll, "pending", True)
        with pytest.raises(KeyboardInterrupt):
            client.get("a")
        interrupted.set()
        assert client.get("a").bytes == VALUE
        assert agent.connections == 1


def test_an_answer_before_the_request_has_left_keeps_the_stream_in_step(tmp_path: Path) -> None:
    """An agent may refuse a large put by its header alone; its value is sent to the end, and the next call
    works.
    """

    def script(peer: Peer) -> None:
        peer.greet()
        peer.sock.recv(1, socket.MSG_PEEK)
        event = peer._event()
        assert isinstance(event, RequestReceived)
        peer.fail(event, LockedError())
        peer._connection.accept_payload(None)
        peer._event()
        request, _ = peer.request()
        peer.answer(request, GOT, VALUE)

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(LockedError):
            client.put("a", bytes(4 * 1024 * 1024))
        assert client.get("a").bytes == VALUE
        assert agent.connections == 1


@pytest.mark.parametrize("alone", [True, False])
def test_a_refusal_for_want_of_room_is_final_for_a_call_alone(tmp_path: Path, alone: bool) -> None:
    """A single call that is refused for want of room fails; one among others is made once more, alone."""

    def script(peer: Peer) -> None:
        peer.greet()
        first, _ = peer.request()
        if not alone:
            second, _ = peer.request()
            peer.answer(second, GOT, b"second")
        peer.fail(first, ResourceExhaustedError("no room"))
        if not alone:
            peer.answer(peer.request()[0], GOT, b"first")

    paths = ["first"] if alone else ["first", "second"]
    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        results = client.perform_all([invocations.secret_get(path) for path in paths])
        if alone:
            with pytest.raises(ResourceExhaustedError):
                next(results)
        else:
            assert [secret.text for secret in results] == paths


def test_a_write_without_room_among_others_is_made_again_alone(tmp_path: Path) -> None:
    """A put that is refused by its header alone is sent to its end, then once more with nothing beside it."""
    large = bytes(4 * 1024 * 1024)

    def script(peer: Peer) -> None:
        peer.greet()
        first, _ = peer.request()
        event = peer._event()
        assert isinstance(event, RequestReceived)
        peer.fail(event, ResourceExhaustedError("no room"))
        peer._connection.accept_payload(None)
        peer._event()
        third, _ = peer.request()
        peer.answer(third, GOT, b"third")
        peer.answer(first, GOT, b"first")
        again, payload = peer.request()
        assert (again.op, payload) == ("secret.put", large)
        peer.answer(again, SecretPutResult(version=1, created=1))

    several: list[Invocation[Any]] = [
        invocations.secret_get("first"),
        invocations.secret_put("second", large),
        invocations.secret_get("third"),
    ]
    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        first, second, third = client.perform_all(several)
        assert (first.text, second.version, third.text) == ("first", 1, "third")


def test_nothing_is_sent_beside_a_call_that_must_be_alone(tmp_path: Path) -> None:
    """What was submitted after it waits until it has been answered."""

    def script(peer: Peer) -> None:
        peer.greet()
        first, _ = peer.request()
        second, _ = peer.request()
        peer.fail(first, ResourceExhaustedError("no room"))
        peer.answer(second, GOT, b"second")
        again, _ = peer.request()
        peer.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.request()
        peer.sock.settimeout(PATIENCE)
        peer.answer(again, GOT, b"first")
        peer.answer(peer.request()[0], GOT, b"third")

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        channel = client._channel
        exchanges = [Exchange(invocations.secret_get(path)) for path in ("first", "second")]
        for exchange in exchanges:
            channel.submit(exchange)
        poller = Poller()
        assert poller.complete(channel, exchanges[1], math.inf)
        exchanges.append(Exchange(invocations.secret_get("third")))
        channel.submit(exchanges[-1])
        for exchange in exchanges:
            assert poller.complete(channel, exchange, math.inf)
        assert [exchange.outcome().text for exchange in exchanges] == ["first", "second", "third"]
