"""Deadlines: no call of any client waits longer than it was told to, and its error says what may have
been done.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import keyholt
from keyholt.invocations import secret_get
from keyholt_protocol.errors import AgentUnreachableError, DeadlineExceededError, InvalidRequestError
from keyholt_protocol.messages import SecretGetResult, SecretInfo, SecretListResult, SecretPutResult
from tests.client.scripted import GREETING, PATIENCE, Peer, ScriptedAgent

CANARY = b"canary-20fd"
LARGE = 4 * 1024 * 1024
SHORT = 0.05
"""Seconds that an answer may take which never comes."""
LONGER = 0.5
"""Seconds that an answer may take which comes, from an agent that is not held up for long."""
Step = Callable[[Any], Any]
"""One call on a client; what it gives is awaited where it must be."""


def with_blocking(address: str, steps: list[Step], timeout: float | None) -> list[Any]:
    """What each step gives or raises, over one blocking client."""
    results: list[Any] = []
    with keyholt.connect(address, timeout=timeout) as client:
        for step in steps:
            try:
                results.append(step(client))
            except keyholt.KeyholtError as error:
                results.append(error)
    return results


async def _await_all(client: Any, steps: list[Step]) -> list[Any]:
    results: list[Any] = []
    for step in steps:
        try:
            result = step(client)
            results.append(await result if inspect.isawaitable(result) else result)
        except keyholt.KeyholtError as error:
            results.append(error)
    return results


def with_trio(address: str, steps: list[Step], timeout: float | None) -> list[Any]:
    """The same with trio."""

    async def main() -> list[Any]:
        with trio.fail_after(PATIENCE):
            async with keyholt.trio.connect(address, timeout=timeout) as client:
                return await _await_all(client, steps)

    return trio.run(main)


def with_asyncio(address: str, steps: list[Step], timeout: float | None) -> list[Any]:
    """The same with asyncio."""

    async def main() -> list[Any]:
        async with asyncio.timeout(PATIENCE), keyholt.asyncio.connect(address, timeout=timeout) as client:
            return await _await_all(client, steps)

    return asyncio.run(main())


Client = Callable[[str, list[Step], float | None], list[Any]]


def after(event: threading.Event, step: Step) -> Step:
    """The step, once the event has been set."""

    def both(client: Any) -> Any:
        event.set()
        return step(client)

    return both


@pytest.fixture(params=[with_blocking, with_trio, with_asyncio], ids=["blocking", "trio", "asyncio"])
def perform(request: pytest.FixtureRequest) -> Client:
    """Each of the clients."""
    client: Client = request.param
    return client


def answer_get(peer: Peer, value: bytes = CANARY) -> None:
    """Answer the next request, a get."""
    request, _ = peer.request()
    peer.answer(request, SecretGetResult(version=1, created=1), value)


def test_a_read_that_is_overdue_may_be_repeated(perform: Client, tmp_path: Path) -> None:
    """The error says so; the connection goes on, and the late answer is nobody's."""

    def script(peer: Peer) -> None:
        peer.greet()
        late, _ = peer.request()
        second, _ = peer.request()
        peer.answer(late, SecretGetResult(version=1, created=1), b"late")
        peer.answer(second, SecretGetResult(version=1, created=1), CANARY)

    with ScriptedAgent(tmp_path / "s", script) as agent:
        overdue, secret = perform(
            agent.address, [lambda c: c.get("a", timeout=SHORT), lambda c: c.get("b")], PATIENCE
        )
        assert agent.connections == 1
    assert isinstance(overdue, DeadlineExceededError)
    assert f"{agent.address} has not answered secret.get within 0.05 seconds; ask again" in str(overdue)
    assert overdue.retryable
    assert secret.bytes == CANARY


def test_a_write_that_is_overdue_may_have_happened(perform: Client, tmp_path: Path) -> None:
    """The error says that nobody knows, and that repeating it is not safe; a value sent by half too."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        assert len(peer.sock.recv(1000)) == 1000
        gone.wait(PATIENCE)

    def second(peer: Peer) -> None:
        peer.greet()
        answer_get(peer)

    gone = threading.Event()
    steps: list[Step] = [
        lambda c: c.put("a", CANARY, timeout=SHORT),
        lambda c: c.put("b", bytes(LARGE), timeout=SHORT),
        after(gone, lambda c: c.get("a")),
    ]
    with ScriptedAgent(tmp_path / "s", script, second) as agent:
        whole, half, secret = perform(agent.address, steps, PATIENCE)
        assert agent.connections == 2  # the second request cannot be left half sent
    for error in (whole, half):
        assert isinstance(error, DeadlineExceededError)
        assert "within 0.05 seconds: it may or may not have been carried out; look before" in str(error)
        assert not error.retryable
        assert CANARY.decode() not in repr(error)
    assert secret.bytes == CANARY


def test_a_write_that_was_not_sent_has_not_happened(perform: Client, tmp_path: Path) -> None:
    """While the agent takes no more, a request waits; overdue, it was not carried out and is not sent."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        hello, _ = peer.request()
        peer.answer(hello, replace(GREETING, max_in_flight=1))
        late, _ = peer.request()
        assert waited.wait(PATIENCE)
        peer.answer(late, SecretGetResult(version=1, created=1), b"late")
        request, _ = peer.request()
        seen.append(request.op)
        peer.answer(request, SecretGetResult(version=1, created=1), CANARY)

    waited = threading.Event()
    steps: list[Step] = [
        lambda c: c.get("a", timeout=SHORT),
        lambda c: c.put("b", CANARY, timeout=SHORT),
        after(waited, lambda c: c.get("c")),
    ]
    with ScriptedAgent(tmp_path / "s", script) as agent:
        _, put, secret = perform(agent.address, steps, PATIENCE)
    assert isinstance(put, DeadlineExceededError)
    assert "within 0.05 seconds: it was not carried out; ask again, or give it longer" in str(put)
    assert put.retryable
    assert (seen, secret.bytes) == (["secret.get"], CANARY)


def test_the_connections_time_is_that_of_each_call(perform: Client, tmp_path: Path) -> None:
    """What ``connect`` was given holds where a call is given nothing; infinity is no deadline."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        late, _ = peer.request()
        never.wait(1.2 * LONGER)  # more than the connection gives a call
        peer.answer(late, SecretGetResult(version=1, created=1), CANARY)

    never = threading.Event()
    steps: list[Step] = [lambda c: c.get("a"), lambda c: c.get("b", timeout=math.inf)]
    with ScriptedAgent(tmp_path / "s", script) as agent:
        overdue, secret = perform(agent.address, steps, LONGER)
    assert isinstance(overdue, DeadlineExceededError)
    assert "within 0.5 seconds" in str(overdue)
    assert secret.bytes == CANARY


def test_none_is_no_bound(perform: Client, tmp_path: Path) -> None:
    """``connect(timeout=None)`` waits as long as it takes, as ``math.inf`` does of a single call."""

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            answer_get(peer)

    with ScriptedAgent(tmp_path / "s", script) as agent:
        steps: list[Step] = [lambda c: c.get("a"), lambda c: c.get("a", timeout=math.inf)]
        assert [secret.bytes for secret in perform(agent.address, steps, None)] == [CANARY] * 2


@pytest.mark.parametrize("timeout", [0, -1, math.nan, -math.inf])
def test_a_timeout_is_a_length_of_time(perform: Client, tmp_path: Path, timeout: float) -> None:
    """0, less and nan are refused, of a connection and of a call, which is not sent; so is what is no
    number.
    """
    said = "a timeout must be more than 0 seconds; math.inf is as long as it takes"
    with pytest.raises(InvalidRequestError, match=said):
        perform(str(tmp_path / "none"), [], timeout)
    word: Any = "5"
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not str"):
        perform(str(tmp_path / "none"), [], word)

    def script(peer: Peer) -> None:
        peer.greet()
        answer_get(peer)

    with ScriptedAgent(tmp_path / "s", script) as agent:
        steps: list[Step] = [lambda c: c.get("a", timeout=timeout), lambda c: c.get("a")]
        refused, secret = perform(agent.address, steps, PATIENCE)
    assert (str(refused), secret.bytes) == (said, CANARY)


def test_each_page_has_the_time(perform: Client, tmp_path: Path) -> None:
    """A listing takes as long as its pages do; one page that does not come ends it."""

    def script(peer: Peer) -> None:
        peer.greet()
        for number in range(8):
            request, _ = peer.request()
            info = SecretInfo(path=f"p{number}", version=1, created=1)
            between.wait(0.15 * LONGER)  # eight of them are more than one call has
            peer.answer(request, SecretListResult(secrets=(info,), next=f"p{number}" if number < 7 else None))
        peer.request()
        gone.wait(PATIENCE)

    between, gone = threading.Event(), threading.Event()
    steps: list[Step] = [
        lambda c: c.list("p", timeout=LONGER),
        lambda c: c.list("p", timeout=SHORT),
        after(gone, lambda c: c.close()),
    ]
    with ScriptedAgent(tmp_path / "s", script) as agent:
        listed, overdue, _ = perform(agent.address, steps, PATIENCE)
    assert [info.path for info in listed] == [f"p{number}" for number in range(8)]
    assert isinstance(overdue, DeadlineExceededError)


def test_pipelined_answers_have_the_time_each(tmp_path: Path) -> None:
    """The first that does not come ends it; those that came were yielded."""

    def script(peer: Peer) -> None:
        peer.greet()
        answer_get(peer, b"a")
        answer_get(peer, b"b")
        peer.request()
        gone.wait(PATIENCE)

    gone = threading.Event()
    got: list[str] = []
    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        results = client.perform_all(map(secret_get, ["a", "b", "c"]), timeout=LONGER)
        with pytest.raises(DeadlineExceededError, match=r"secret\.get within 0\.5 seconds"):
            got.extend(secret.text for secret in results)
        gone.set()
    assert got == ["a", "b"]


def test_another_threads_call_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """A thread whose turn does not come in time has sent nothing, and says so."""

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        came.set()
        assert gave_up.wait(PATIENCE)
        peer.answer(request, SecretPutResult(version=1, created=1))

    came, gave_up = threading.Event(), threading.Event()
    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        thread = threading.Thread(target=lambda: client.put("first", CANARY))
        thread.start()
        assert came.wait(PATIENCE)
        with pytest.raises(DeadlineExceededError, match="it was not carried out"):
            client.put("second", CANARY, timeout=SHORT)
        gave_up.set()
        thread.join()


@pytest.mark.parametrize("seconds", [4 * SHORT, 1e-9])
@pytest.mark.parametrize("write", [True, False])
def test_opening_again_is_part_of_the_call(
    perform: Client, tmp_path: Path, write: bool, seconds: float
) -> None:
    """A call that has to connect anew, to an agent that does not greet, ends in time too. What was too short
    is its time, so the agent is not blamed; nothing was carried out.
    """

    def goes(peer: Peer) -> None:
        peer.greet()
        peer.sock.close()
        went.set()

    def silent(peer: Peer) -> None:
        peer.request()
        gone.wait(PATIENCE)

    went, gone = threading.Event(), threading.Event()

    def call(client: Any) -> Any:
        assert went.wait(PATIENCE)
        if write:
            return client.put("a", CANARY, timeout=seconds)
        return client.get("a", timeout=seconds)

    steps: list[Step] = [call, after(gone, lambda c: c.close())]
    with ScriptedAgent(tmp_path / "s", goes, silent) as agent:
        overdue, _ = perform(agent.address, steps, PATIENCE)
    assert isinstance(overdue, DeadlineExceededError)
    assert overdue.retryable
    assert "has not answered secret." in str(overdue)
    assert ("it was not carried out" in str(overdue)) == write


def test_entering_has_the_time_too(perform: Client, tmp_path: Path) -> None:
    """An agent that accepts and does not greet is unreachable after the time that ``connect`` was given."""

    def silent(peer: Peer) -> None:
        gone.wait(PATIENCE)

    gone = threading.Event()
    with ScriptedAgent(tmp_path / "s", silent) as agent:
        try:
            with pytest.raises(AgentUnreachableError, match=r"does not answer|accepts no connection"):
                perform(agent.address, [], SHORT)
        finally:
            gone.set()
