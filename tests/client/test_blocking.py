"""The blocking client, against a real agent and against ones that leave or answer in pages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import keyholt
from keyholt import invocations
from keyholt_protocol.errors import (
    ConflictError,
    InvalidRequestError,
    KeyholtError,
    LockedError,
    NotFoundError,
    TooLargeError,
)
from keyholt_protocol.limits import MAX_PAGE, MAX_VALUE
from keyholt_protocol.messages import (
    SecretHistoryResult,
    SecretVersionInfo,
)
from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.scripted import (
    GOT,
    GREETING,
    VALUE,
    Peer,
    ScriptedAgent,
    greet_and_go,
    serve_one,
    take_one_and_go,
)


def test_everything_against_a_real_agent(agent: RunningAgent) -> None:
    """Each method does what it says, over one connection."""
    with keyholt.connect(agent.address) as client:
        assert client.put("lib/a", VALUE, labels={"k": "v"}).version == 1
        assert client.put("lib/a", bytearray(b"two"), if_version=1).version == 2
        with pytest.raises(ConflictError):
            client.put("lib/a", "three", if_version=1)
        assert client.put("lib/b", memoryview(b"\0\xff")).version == 1
        assert client.put("lib/c", "", expires=4102444800).version == 1
        assert client.get("lib/a").text == "two"
        first = client.get("lib/a", version=1)
        assert (first.bytes, first.labels, first.version) == (VALUE, {"k": "v"}, 1)
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
            client.unlock(passphrase=b"two", slot="second")
        assert client.unlock(passphrase=b"three", slot="second").slot == "second"
        client.slots.remove("first", passphrase=b"three")
        assert [slot.name for slot in client.slots.list()] == ["second"]


def test_listing_goes_through_all_pages(agent: RunningAgent) -> None:
    """More secrets than a page holds come back whole and in order."""
    paths = [f"pages/{number:04}" for number in range(MAX_PAGE + 2)]
    with keyholt.connect(agent.address) as client:
        results = list(client.perform_all(invocations.secret_put(path, b"") for path in paths))
        assert [result.version for result in results] == [1] * len(paths)
        assert [info.path for info in client.list("pages/")] == paths


def test_history_goes_through_all_pages(tmp_path: Path) -> None:
    """Versions that come in pages are one history, newest first."""

    def script(peer: Peer) -> None:
        peer.greet()
        for before, versions, following in ((None, (5, 4), 4), (4, (3, 2), 2), (2, (1,), None)):
            request, _ = peer.request()
            assert request.args.get("before") == before
            page = tuple(SecretVersionInfo(version=version, created=version) for version in versions)
            peer.answer(request, SecretHistoryResult(latest=5, deleted=7, versions=page, next=following))

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        history = client.history("a")
    assert [version.version for version in history.versions] == [5, 4, 3, 2, 1]
    assert (history.latest, history.deleted, history.next) == (5, 7, None)


def test_a_value_of_16_mib_goes_and_comes(agent: RunningAgent) -> None:
    """The largest value that is allowed is written and read; a byte more is refused before it is sent."""
    value = os.urandom(MAX_VALUE)
    with keyholt.connect(agent.address) as client:
        if client.status().memory_size < 2 * MAX_VALUE:
            pytest.skip("needs more locked memory than this RLIMIT_MEMLOCK allows: run it as root")
        client.put("large/a", value)
        assert client.get("large/a").bytes == value
        with pytest.raises(TooLargeError, match="more than 16777216 bytes"):
            client.put("large/a", value + b"x")


def test_threads_may_share_a_connection(agent: RunningAgent) -> None:
    """Eight threads get their own values each."""
    wrong: list[str] = []

    def work(number: int) -> None:
        got = [client.get(f"threads/{number}").text for _ in range(20)]
        wrong.extend(text for text in got if text != str(number))

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
        peer.answer(request, GOT, VALUE * 9000, split=False)
        request, _ = peer.request()
        peer.answer(request, GOT, VALUE, split=True)

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        assert client.get("a").bytes == VALUE * 9000
        assert client.get("a").bytes == VALUE


def test_the_receive_buffer_keeps_nothing(tmp_path: Path) -> None:
    """A small value comes through the receive buffer, and is zeroed there before the caller sees it."""
    with ScriptedAgent(tmp_path / "s", serve_one) as agent, keyholt.connect(agent.address) as client:
        secret = client.get("a")
        assert secret.bytes == VALUE
        assert VALUE not in bytes(client._channel._buffer)


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
            with pytest.raises((InvalidRequestError, TooLargeError)):
                client.get(path)


def test_errors_and_reprs_show_no_value(tmp_path: Path) -> None:
    """Calls, slots, agents and errors that hold a value print without it."""
    invocation = invocations.secret_put("a", VALUE)
    assert VALUE.decode() not in repr(invocation)
    with ScriptedAgent(tmp_path / "s", take_one_and_go) as agent, keyholt.connect(agent.address) as client:
        with pytest.raises(KeyholtError) as caught:
            client.put("a", VALUE)
        assert VALUE.decode() not in repr((client, caught.value, client.slots, client._channel))


def test_pipelined_calls_that_found_no_room_are_made_again(agent: RunningAgent) -> None:
    """Large values asked for among many small ones all come, though the agent refuses some at first."""
    large = os.urandom(5 * 1024 * 1024)
    with keyholt.connect(agent.address) as client:
        for number in range(12):
            client.put(f"crowd/{number}", large if number % 3 == 0 else str(number))
        paths = [f"crowd/{number}" for number in range(12)] * 2
        values = [
            secret.bytes for secret in client.perform_all(invocations.secret_get(path) for path in paths)
        ]
    assert values == [large if n % 3 == 0 else str(n).encode() for n in range(12)] * 2


FORKER = """
import os, sys
import keyholt
with keyholt.connect(sys.argv[1]) as client:
    child = os.fork()
    name = "child" if child == 0 else "parent"
    for turn in range(200):
        with client.get("fork/" + name) as secret:
            if secret.text != name:
                os._exit(1)
    if child == 0:
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_gets_no_answer_of_its_parent(agent: RunningAgent) -> None:
    """Both go on with the client that they share, and each gets its own secrets only."""
    with keyholt.connect(agent.address) as client:
        for name in ("parent", "child"):
            client.put(f"fork/{name}", name)
    done = subprocess.run([sys.executable, "-c", FORKER, agent.address], timeout=60, check=False)
    assert done.returncode == 0


def test_labels_and_expiry_are_kept_until_told_otherwise(agent: RunningAgent) -> None:
    """Left out they stay, at another path too; ``{}`` and 0 take them away."""
    with keyholt.connect(agent.address) as client:
        client.put("kept/a", "one", labels={"env": "prod"}, expires=2**33)
        client.put("kept/a", "two")
        client.copy("kept/a", to="kept/b")
        client.move("kept/b", to="kept/c")
        with client.get("kept/c") as secret:
            assert (secret.text, secret.labels, secret.expires) == ("two", {"env": "prod"}, 2**33)
        client.put("kept/c", "three", labels={}, expires=0)
        with client.get("kept/c") as secret:
            assert (secret.text, secret.labels, secret.expires) == ("three", {}, None)
        client.purge("kept/c")
        with pytest.raises(NotFoundError):
            client.history("kept/c")
