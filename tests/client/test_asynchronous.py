"""The clients for tasks, each test once with trio and once with asyncio."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import keyholt
from keyholt.async_methods import AsyncSlots
from keyholt.asynchronous import AsyncClient
from keyholt.blocking import Client
from keyholt.methods import Slots
from keyholt_protocol.connection import RequestReceived
from keyholt_protocol.errors import AgentUnreachableError, InvalidRequestError, NotFoundError
from keyholt_protocol.messages import SecretGetResult, SecretPutResult
from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.scripted import Peer, ScriptedAgent

CANARY = b"canary-9e21"
LARGE = 4 * 1024 * 1024
PATIENCE = 20

Task = Callable[[], Awaitable[Any]]


class Trio:
    """How the tests do things with trio."""

    connect = staticmethod(keyholt.trio.connect)
    get = staticmethod(keyholt.trio.get)

    def run(self, main: Task) -> None:
        async def bounded() -> None:
            with trio.fail_after(PATIENCE):
                await main()

        trio.run(bounded)

    async def all(self, tasks: list[Task]) -> list[Any]:
        """Run all tasks at once; their results or exceptions."""
        results: list[Any] = [None] * len(tasks)

        async def one(index: int) -> None:
            try:
                results[index] = await tasks[index]()
            except Exception as error:
                results[index] = error

        async with trio.open_nursery() as nursery:
            for index in range(len(tasks)):
                nursery.start_soon(one, index)
        return results

    async def cancelled_when(self, task: Task, event: threading.Event) -> None:
        """Start the task and cancel it once the event is set."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            await trio.to_thread.run_sync(event.wait, PATIENCE)
            nursery.cancel_scope.cancel()


class Asyncio:
    """How the tests do things with asyncio."""

    connect = staticmethod(keyholt.asyncio.connect)
    get = staticmethod(keyholt.asyncio.get)

    def run(self, main: Task) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await main()

        asyncio.run(bounded())

    async def all(self, tasks: list[Task]) -> list[Any]:
        return await asyncio.gather(*(task() for task in tasks), return_exceptions=True)

    async def cancelled_when(self, task: Task, event: threading.Event) -> None:
        running = asyncio.ensure_future(task())
        await asyncio.to_thread(event.wait, PATIENCE)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


@pytest.fixture(params=[Trio, Asyncio], ids=["trio", "asyncio"])
def kit(request: pytest.FixtureRequest) -> Trio | Asyncio:
    """Either library."""
    made: Trio | Asyncio = request.param()
    return made


def answer_get(peer: Peer, request: RequestReceived, value: bytes | None = None) -> None:
    """Answer a get with its path as the value."""
    path = str(request.args["path"]).encode()
    peer.answer(request, SecretGetResult(version=1, created=1), path if value is None else value)


def test_everything_against_a_real_agent(kit: Trio | Asyncio, agent: RunningAgent) -> None:
    """Each method does what the blocking one does."""
    prefix = f"{type(kit).__name__}/"

    async def main() -> None:
        async with kit.connect(agent.address) as client:
            assert client.greeting is not None
            assert (await client.put(prefix + "a", CANARY, labels={"k": "v"})).version == 1
            assert (await client.put(prefix + "a", "two", if_version=1)).version == 2
            assert (await client.get(prefix + "a", version=1)).bytes == CANARY
            assert [info.path for info in await client.list(prefix)] == [prefix + "a"]
            assert len((await client.history(prefix + "a")).versions) == 2
            await client.destroy(prefix + "a", version=1)
            await client.delete(prefix + "a")
            with pytest.raises(NotFoundError):
                await client.get(prefix + "a")
            await client.undelete(prefix + "a")
            assert (await client.status()).state == "unlocked"
            await client.unlock(passphrase=PASSPHRASE)
            assert (await client.slots.list())[0].name == "passphrase"
        assert (await kit.get(prefix + "a", address=agent.address)).text == "two"

    kit.run(main)


def test_many_tasks_share_a_connection(kit: Trio | Asyncio, agent: RunningAgent) -> None:
    """A hundred tasks, more than the agent admits at once, with small and large values, get their own
    each.
    """
    prefix = f"many/{type(kit).__name__}/"
    large = os.urandom(LARGE)

    async def main() -> None:
        async with kit.connect(agent.address) as client:

            async def small(number: int) -> None:
                await client.put(f"{prefix}{number}", str(number))
                for _ in range(5):
                    assert (await client.get(f"{prefix}{number}")).text == str(number)

            async def big() -> None:
                await client.put(f"{prefix}large", large)
                assert (await client.get(f"{prefix}large")).bytes == large

            tasks: list[Task] = [lambda number=number: small(number) for number in range(100)]  # type: ignore[misc]
            assert await kit.all([*tasks, big]) == [None] * 101

    kit.run(main)


def test_answers_may_overtake_each_other(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """Two tasks whose requests are answered in the other order get their own answers."""

    def script(peer: Peer) -> None:
        peer.greet()
        first, _ = peer.request()
        second, _ = peer.request()
        answer_get(peer, second)
        answer_get(peer, first)

    async def main() -> None:
        async with kit.connect(agent.address) as client:
            first, second = await kit.all([lambda: client.get("a"), lambda: client.get("b")])
            assert (first.text, second.text) == ("a", "b")

    with ScriptedAgent(tmp_path / "s", script) as agent:
        kit.run(main)


@pytest.mark.parametrize("leader", [True, False])
def test_a_cancelled_call_takes_nobody_along(kit: Trio | Asyncio, tmp_path: Path, leader: bool) -> None:
    """Whether or not the cancelled task was reading for the others, they get their answers on the same
    connection, and its own late answer is received and discarded.
    """
    both_came, cancelled = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        first, _ = peer.request()
        second, _ = peer.request()
        both_came.set()
        assert cancelled.wait(PATIENCE)
        answer_get(peer, first)
        answer_get(peer, second)
        answer_get(peer, peer.request()[0])

    async def main() -> None:
        async with kit.connect(agent.address) as client:

            async def stays() -> None:
                assert (await client.get("stays")).text == "stays"

            async def goes() -> None:
                await kit.cancelled_when(lambda: client.get("goes"), both_came)
                cancelled.set()

            assert await kit.all([goes, stays] if leader else [stays, goes]) == [None, None]
            assert (await client.get("next")).text == "next"
            assert client._channel is not None
            assert not client._channel._open

    with ScriptedAgent(tmp_path / "s", script) as agent:
        kit.run(main)
        assert agent.connections == 1


def test_a_value_cancelled_half_received_is_wiped(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """A call cancelled in the middle of its value leaves the stream in step and the half in no buffer."""
    half, cancelled = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        head = peer._connection.send_result(request.id, {"version": 1, "created": 1}, LARGE)
        peer.send(head + CANARY + bytes(LARGE // 2))
        half.set()
        assert cancelled.wait(PATIENCE)
        peer.send(bytes(LARGE - LARGE // 2 - len(CANARY)))
        answer_get(peer, peer.request()[0])

    async def main() -> None:
        async with kit.connect(agent.address) as client:
            await kit.cancelled_when(lambda: client.get("large"), half)
            assert client._channel is not None
            (slot,) = client._channel._open.values()
            cancelled.set()
            assert (await client.get("next")).text == "next"
            assert slot.value in (b"", bytes(LARGE))

    with ScriptedAgent(tmp_path / "s", script) as agent:
        kit.run(main)
        assert agent.connections == 1


def test_a_request_cut_in_half_ends_the_connection(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """Cancelling a large put while it is being sent closes the connection: the agent sees its end, never
    another request in the middle; a get that waited beside it is made again on a new connection.
    """
    began, gone = threading.Event(), threading.Event()
    ended: list[bool] = []

    def stall(peer: Peer) -> None:
        peer.greet()
        peer.request()  # the get
        assert peer.sock.recv(1000)
        began.set()
        assert gone.wait(PATIENCE)  # the rest of the put is never taken
        while peer.sock.recv(65536):
            pass
        ended.append(True)

    def script(peer: Peer) -> None:
        peer.greet()
        answer_get(peer, peer.request()[0])

    async def main() -> None:
        async with kit.connect(agent.address) as client:

            async def put() -> None:
                await kit.cancelled_when(lambda: client.put("large", bytes(4 * LARGE)), began)
                gone.set()

            async def get() -> None:
                assert (await client.get("beside")).text == "beside"

            assert await kit.all([get, put]) == [None, None]

    with ScriptedAgent(tmp_path / "s", stall, script) as agent:
        kit.run(main)
        assert agent.connections == 2
    assert ended


def test_a_large_put_does_not_wait_behind_unread_answers(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """An agent that first sends all of an abandoned answer and only then reads does not deadlock a large
    put.
    """
    came = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        came.set()
        peer.sock.recv(1, 0x2)  # MSG_PEEK: the put has begun
        answer_get(peer, request, bytes(LARGE))
        request, payload = peer.request()
        peer.answer(request, SecretPutResult(version=1, created=len(payload)))

    async def main() -> None:
        async with kit.connect(agent.address) as client:
            await kit.cancelled_when(lambda: client.get("large"), came)
            assert (await client.put("large", bytes(LARGE))).created == LARGE

    with ScriptedAgent(tmp_path / "s", script) as agent:
        kit.run(main)


def test_waiting_tasks_are_told_when_the_agent_goes(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """Of tasks that lose their connection the gets are made again, over one new connection; the put is
    not.
    """

    def goes(peer: Peer) -> None:
        peer.greet()
        for _ in range(3):
            peer.request()

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            answer_get(peer, peer.request()[0])

    async def main() -> None:
        async with kit.connect(agent.address) as client:
            tasks: list[Task] = [
                lambda: client.get("a"),
                lambda: client.put("p", CANARY),
                lambda: client.get("b"),
            ]
            first, put, second = await kit.all(tasks)
            assert (first.text, second.text) == ("a", "b")
            assert isinstance(put, AgentUnreachableError)
            assert "may or may not" in str(put)

    with ScriptedAgent(tmp_path / "s", goes, script) as agent:
        kit.run(main)
        assert agent.connections == 2


def test_closing_fails_what_waits(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """Closing wakes a task that waits for an answer; the closed client refuses further calls."""
    came = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        came.set()
        peer.request()

    async def main() -> None:
        async with kit.connect(agent.address) as client:

            async def close() -> None:
                await kit.cancelled_when(sleep_forever(kit), came)
                await client.close()

            waiting, _ = await kit.all([lambda: client.get("a"), close])
            assert isinstance(waiting, AgentUnreachableError)
            with pytest.raises(InvalidRequestError, match="not open"):
                await client.get("a")

    with ScriptedAgent(tmp_path / "s", script) as agent:
        kit.run(main)


def sleep_forever(kit: Trio | Asyncio) -> Task:
    """A task that ends by cancellation only."""
    return trio.sleep_forever if isinstance(kit, Trio) else asyncio.Event().wait


def test_errors_reach_the_caller_as_they_are(kit: Trio | Asyncio, tmp_path: Path) -> None:
    """An error inside the ``async with`` comes out as itself, not wrapped in a group."""

    async def main() -> None:
        with pytest.raises(AgentUnreachableError):
            async with kit.connect(str(tmp_path / "nothing")):
                pass
        with pytest.raises(NotFoundError):
            async with kit.connect(agent.address) as client:
                await client.get("a")

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        peer.fail(request, NotFoundError("no"))

    with ScriptedAgent(tmp_path / "s", script) as agent:
        kit.run(main)


def test_the_type_has_a_public_name(kit: Trio | Asyncio) -> None:
    """What ``connect`` gives can be written in an annotation."""
    home = keyholt.trio if isinstance(kit, Trio) else keyholt.asyncio
    assert isinstance(kit.connect("/nowhere/s"), home.Client)
    assert "Client" in home.__all__


@pytest.mark.parametrize("blocking,tasks", [(Client, AsyncClient), (Slots, AsyncSlots)])
def test_the_clients_have_the_same_methods(blocking: type, tasks: type) -> None:
    """Every public method of the blocking client exists for tasks, with the same parameters and result."""

    def methods(cls: type) -> dict[str, inspect.Signature]:
        members = inspect.getmembers(cls, inspect.isfunction)
        return {name: inspect.signature(member) for name, member in members if not name.startswith("_")}

    expected = methods(blocking)
    expected.pop("perform_all", None)  # tasks pipeline by being several
    assert methods(tasks) == expected
