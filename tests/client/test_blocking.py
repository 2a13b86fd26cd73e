from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import keyholt
from keyholt import calls
from keyholt_protocol.errors import (
    AgentUnreachableError,
    ConflictError,
    InvalidRequestError,
    KeyholtError,
    LockedError,
    NotFoundError,
    ResourceExhaustedError,
    TooLargeError,
    UnsupportedError,
)
from keyholt_protocol.limits import MAX_PAYLOAD
from keyholt_protocol.messages import GetResult, PutResult, StatusRequest

from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.scripted import GREETING, Peer, ScriptedAgent

CANARY = b"canary-51b0"
GOT = GetResult(version=2, created=5)


def serve_one(peer: Peer) -> None:
    """Answer the greeting and one get."""
    peer.greet()
    request, _ = peer.request()
    peer.answer(request, GOT, CANARY)


def take_one_and_go(peer: Peer) -> None:
    """Take a request and close without an answer."""
    peer.greet()
    peer.request()


def greet_and_go(peer: Peer) -> None:
    peer.greet()


def test_everything_against_a_real_agent(agent: RunningAgent) -> None:
    """Each method does what it says, over one connection."""
    with keyholt.connect(agent.address) as client:
        assert client.put("lib/a", CANARY, labels={"k": "v"}).version == 1
        assert client.put("lib/a", bytearray(b"two"), if_version=1).version == 2
        with pytest.raises(ConflictError):
            client.put("lib/a", "three", if_version=1)
        assert client.put("lib/b", memoryview(b"\0\xff")).version == 1
        assert client.put("lib/c", "", expires=4102444800).version == 1
        assert client.get("lib/a").text == "two"
        first = client.get("lib/a", version=1)
        assert (first.bytes, first.labels, first.version) == (CANARY, {"k": "v"}, 1)
        assert client.get("lib/c").bytes == b""
        assert client.get("lib/c").expires == 4102444800
        assert [info.path for info in client.list("lib/")] == ["lib/a", "lib/b", "lib/c"]
        assert [version.version for version in client.history("lib/a").versions] == [2, 1]
        assert client.delete("lib/a").version == 2
        with pytest.raises(NotFoundError):
            client.get("lib/a")
        assert client.undelete("lib/a").version == 2
        client.destroy("lib/a", version=1)
        with pytest.raises(NotFoundError):
            client.get("lib/a", version=1)
        assert client.status().state == "unlocked"
        client.unlock(passphrase=PASSPHRASE)
    assert keyholt.get("lib/a", address=agent.address).text == "two"


def test_slots_and_locking(own_agent: RunningAgent) -> None:
    """Keyslots are added, changed and removed; each passphrase opens the store it should and no other."""
    with keyholt.connect(own_agent.address) as client:
        with pytest.raises(keyholt.UninitialisedError):
            client.get("a")
        client.init(passphrase=b"one", slot="first")
        client.slots.add("second", existing=b"one", new="two")
        assert sorted(slot.name for slot in client.slots.list()) == ["first", "second"]
        client.slots.change("second", existing=b"two", new=bytearray(b"three"))
        client.lock()
        with pytest.raises(LockedError):
            client.get("a")
        with pytest.raises(keyholt.UnlockFailedError):
            client.unlock(passphrase=b"two")
        assert client.unlock(passphrase=b"three").slot == "second"
        client.slots.remove("first", passphrase=b"three")
        assert [slot.name for slot in client.slots.list()] == ["second"]


def test_listing_goes_through_all_pages(agent: RunningAgent) -> None:
    """More secrets and versions than a page holds come back whole and in order."""
    with keyholt.connect(agent.address) as client:
        results = list(client.perform_all(calls.put(f"pages/{i:04}", b"", None, None, None) for i in range(620)))
        assert [result.version for result in results] == [1] * 620
        assert [info.path for info in client.list("pages/")] == [f"pages/{i:04}" for i in range(620)]
        list(client.perform_all(calls.put("pages/0000", b"", None, None, None) for _ in range(520)))
        history = client.history("pages/0000")
        assert [version.version for version in history.versions] == list(range(521, 0, -1))
        assert history.next is None


def test_a_value_of_16_mib_goes_and_comes(agent: RunningAgent) -> None:
    """The largest value that is allowed is written and read; a byte more is refused before it is sent."""
    value = os.urandom(MAX_PAYLOAD)
    with keyholt.connect(agent.address) as client:
        client.put("large/a", value)
        assert client.get("large/a").bytes == value
        with pytest.raises(TooLargeError, match="16777217 bytes"):
            client.put("large/a", value + b"x")


def test_threads_may_share_a_connection(agent: RunningAgent) -> None:
    """Eight threads get their own values each."""
    wrong: list[str] = []

    def work(number: int) -> None:
        for _ in range(20):
            if client.get(f"threads/{number}").text != str(number):
                wrong.append(str(number))

    with keyholt.connect(agent.address) as client:
        for number in range(8):
            client.put(f"threads/{number}", str(number))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_an_answer_may_come_a_byte_at_a_time(tmp_path: Path) -> None:
    """Greeting and value arrive whole however the stream is cut."""

    def script(peer: Peer) -> None:
        hello, _ = peer.request()
        peer.answer(hello, GREETING, split=True)
        request, _ = peer.request()
        peer.answer(request, GOT, CANARY * 9000, split=False)
        request, _ = peer.request()
        peer.answer(request, GOT, CANARY, split=True)

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        assert client.get("a").bytes == CANARY * 9000
        assert client.get("a").bytes == CANARY


def test_the_receive_buffer_keeps_nothing(tmp_path: Path) -> None:
    """A small value comes through the receive buffer, and is zeroed there before the caller sees it."""
    with ScriptedAgent(tmp_path / "s", serve_one) as agent, keyholt.connect(agent.address) as client:
        secret = client.get("a")
        assert secret.bytes == CANARY
        assert CANARY not in bytes(client._channel._buffer)


def test_a_repeatable_call_is_repeated_once(tmp_path: Path) -> None:
    """A get whose connection broke before the answer is made again on a new one, and only once."""
    with ScriptedAgent(tmp_path / "s", take_one_and_go, serve_one) as agent, keyholt.connect(agent.address) as client:
        assert client.get("a").bytes == CANARY
        assert agent.connections == 2
    twice = (take_one_and_go, take_one_and_go)
    with ScriptedAgent(tmp_path / "t", *twice) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(AgentUnreachableError, match="broke before it answered secret.get"):
            client.get("a")
        assert agent.connections == 2


def test_a_write_that_may_have_happened_is_not_repeated(tmp_path: Path) -> None:
    """A put whose connection broke after it was sent is an error that says that it may have happened."""
    with ScriptedAgent(tmp_path / "s", take_one_and_go, serve_one) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(AgentUnreachableError, match="may or may not have been carried out"):
            client.put("a", CANARY)
        assert agent.connections == 1
        assert client.get("a").bytes == CANARY


def test_a_write_that_was_not_sent_is_repeated(own_agent: RunningAgent) -> None:
    """After a restart of the agent the first write finds the old connection closed and goes out on a new one."""
    with keyholt.connect(own_agent.address) as client:
        client.init(passphrase=PASSPHRASE)
        own_agent.restart()
        client.unlock(passphrase=PASSPHRASE)  # not repeatable either
        assert client.put("a", CANARY).version == 1
        own_agent.restart()
        with pytest.raises(LockedError):
            client.get("a")


def test_what_the_agent_says_of_the_connection_is_raised(tmp_path: Path) -> None:
    """An error without a request, said before the agent closes, reaches the caller."""

    def full(peer: Peer) -> None:
        peer.request()
        peer.fail(None, ResourceExhaustedError("too many connections"))

    with ScriptedAgent(tmp_path / "s", full) as agent, pytest.raises(ResourceExhaustedError, match="too many"):
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
        assert payload == CANARY
        peer.answer(request, PutResult(version=1, created=1))

    with ScriptedAgent(tmp_path / "s", idle, write) as agent, keyholt.connect(agent.address) as client:
        assert closed.wait(10)
        assert client.put("a", CANARY).version == 1


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

    with ScriptedAgent(tmp_path / "s", script) as agent:
        with pytest.raises(AgentUnreachableError, match="broke the protocol|broke before"):
            keyholt.connect(agent.address)


@pytest.mark.parametrize("payload,result", [(b"", {"versions": 1}), (b"", {}), (b"x", {"version": 1, "created": 1})])
def test_a_result_of_another_shape_is_named(tmp_path: Path, payload: bytes, result: dict[str, object]) -> None:
    """A result with unknown or missing fields, or with a payload where there is none, ends the connection."""

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        peer.send(peer._connection.send_result(request.id, result, len(payload)) + payload)

    with ScriptedAgent(tmp_path / "s", script, script) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(AgentUnreachableError, match="broke the protocol"):
            client.put("a", CANARY)


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
    with pytest.raises(AgentUnreachableError, match="there is no socket at .*keyholt-agent"):
        keyholt.connect(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    with pytest.raises(AgentUnreachableError, match="nobody listens"):
        keyholt.connect(str(tmp_path / "file"))
    with pytest.raises(UnsupportedError):
        keyholt.connect("tls://localhost:1")


def test_a_closed_client_says_so(tmp_path: Path) -> None:
    """A call after ``close`` is the caller's mistake; closing twice is none."""
    with ScriptedAgent(tmp_path / "s", greet_and_go) as agent:
        client = keyholt.connect(agent.address)
        client.close()
        client.close()
        with pytest.raises(InvalidRequestError, match="was closed"):
            client.status()


def test_bad_names_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """A name that the protocol does not allow never reaches the agent."""
    with ScriptedAgent(tmp_path / "s", greet_and_go) as agent, keyholt.connect(agent.address) as client:
        for path in ("", "a//b", "../a", "a\n", "x" * 1000, "ﬁ"):
            with pytest.raises(InvalidRequestError):
                client.get(path)


def test_errors_and_reprs_show_no_value(tmp_path: Path) -> None:
    """Calls, slots, agents and errors that hold a value print without it."""
    call = calls.put("a", CANARY, None, None, None)
    assert CANARY.decode() not in repr(call)
    with ScriptedAgent(tmp_path / "s", take_one_and_go) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(KeyholtError) as caught:
            client.put("a", CANARY)
        assert CANARY.decode() not in repr((client, caught.value, client.slots, client._channel))


def test_an_interrupted_call_leaves_the_connection_usable(tmp_path: Path) -> None:
    """A KeyboardInterrupt while waiting leaves the late answer to be received, and discarded, by the next call."""
    interrupted = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        late, _ = peer.request()
        threading.Thread(target=signal_main).start()
        assert interrupted.wait(10)
        peer.answer(late, GOT, b"late")
        request, _ = peer.request()
        peer.answer(request, GOT, CANARY)

    def signal_main() -> None:
        import signal

        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get("a")
        interrupted.set()
        assert client.get("a").bytes == CANARY
        assert agent.connections == 1


def test_the_request_of_a_call_is_its_message() -> None:
    """A call without arguments is its operation's empty request."""
    assert calls.status().request == StatusRequest()
