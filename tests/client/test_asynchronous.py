"""The clients for tasks, each test once with trio and once with asyncio."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from pathlib import Path

import pytest
import trio

import keyholt
from keyholt.async_methods import AsyncSlots
from keyholt.asynchronous import AsyncClient
from keyholt.blocking import Client
from keyholt.methods import Slots
from keyholt_protocol.errors import AgentUnreachableError, InvalidRequestError, NotFoundError
from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.libraries import PATIENCE, Library, Task, Trio, answer_get
from tests.client.scripted import GREETING, Peer, ScriptedAgent

CANARY = b"canary-9e21"
LARGE = 4 * 1024 * 1024


def test_everything_against_a_real_agent(library: Library, agent: RunningAgent) -> None:
    """Each method does what the blocking one does."""
    prefix = f"{type(library).__name__}/"

    async def main() -> None:
        async with library.connect(agent.address) as client:
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
            assert (await client.copy(prefix + "a", to=prefix + "b")).version == 2
            assert (await client.move(prefix + "b", to=prefix + "c")).version == 2
            assert (await client.get(prefix + "c")).text == "two"
            assert (await client.purge(prefix + "c", if_version=2)).version == 2
            assert [one.path for one in await client.list(prefix)] == [prefix + "a"]
            assert (await client.status()).state == "unlocked"
            await client.unlock(passphrase=PASSPHRASE)
            assert (await client.slots.list())[0].name == "passphrase"
        assert (await library.get(prefix + "a", address=agent.address)).text == "two"

    library.run(main)


def test_many_tasks_share_a_connection(library: Library, agent: RunningAgent) -> None:
    """A hundred tasks, more than the agent takes at once, with small and large values, get their own
    each.
    """
    prefix = f"many/{type(library).__name__}/"
    large = os.urandom(LARGE)

    async def main() -> None:
        async with library.connect(agent.address) as client:

            async def small(number: int) -> None:
                await client.put(f"{prefix}{number}", str(number))
                for _ in range(5):
                    assert (await client.get(f"{prefix}{number}")).text == str(number)

            async def big() -> None:
                await client.put(f"{prefix}large", large)
                assert (await client.get(f"{prefix}large")).bytes == large

            tasks: list[Task] = [lambda number=number: small(number) for number in range(100)]  # type: ignore[misc]
            assert await library.all([*tasks, big]) == [None] * 101

    library.run(main)


def test_answers_may_overtake_each_other(library: Library, tmp_path: Path) -> None:
    """Two tasks whose requests are answered in the other order get their own answers."""

    def script(peer: Peer) -> None:
        peer.greet()
        first, _ = peer.request()
        second, _ = peer.request()
        answer_get(peer, second)
        answer_get(peer, first)

    async def main() -> None:
        async with library.connect(agent.address) as client:
            first, second = await library.all([lambda: client.get("a"), lambda: client.get("b")])
            assert (first.text, second.text) == ("a", "b")

    with ScriptedAgent(tmp_path / "s", script) as agent:
        library.run(main)


def test_waiting_tasks_are_told_when_the_agent_goes(library: Library, tmp_path: Path) -> None:
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
        async with library.connect(agent.address) as client:
            tasks: list[Task] = [
                lambda: client.get("a"),
                lambda: client.put("p", CANARY),
                lambda: client.get("b"),
            ]
            first, put, second = await library.all(tasks)
            assert (first.text, second.text) == ("a", "b")
            assert isinstance(put, AgentUnreachableError)
            assert "may or may not" in str(put)

    with ScriptedAgent(tmp_path / "s", goes, script) as agent:
        library.run(main)
        assert agent.connections == 2


def test_closing_fails_what_waits(library: Library, tmp_path: Path) -> None:
    """Closing wakes a task that waits for an answer; the closed client refuses further calls."""
    came = threading.Event()

    def script(peer: Peer) -> None:
        peer.greet()
        peer.request()
        came.set()
        peer.request()

    async def main() -> None:
        async with library.connect(agent.address) as client:

            async def close() -> None:
                await library.cancelled_when(sleep_forever(library), came)
                await client.close()

            waiting, _ = await library.all([lambda: client.get("a"), close])
            assert isinstance(waiting, AgentUnreachableError)
            with pytest.raises(InvalidRequestError, match="not open"):
                await client.get("a")

    with ScriptedAgent(tmp_path / "s", script) as agent:
        library.run(main)


def test_a_client_that_was_not_entered_says_so(library: Library, agent: RunningAgent) -> None:
    """A call outside of the ``async with``, before it or after it, is refused by a sentence that names it."""
    said = "this connection to the agent is not open; use it inside `async with connect\\(\\)`"

    async def main() -> None:
        client = library.connect(agent.address)
        for call in (client.status, client.list, client.slots.list):
            with pytest.raises(InvalidRequestError, match=said):
                await call()
        await client.close()
        async with client:
            await client.status()
        with pytest.raises(InvalidRequestError, match=said):
            await client.status()

    library.run(main)


def test_a_client_may_be_awaited(library: Library, agent: RunningAgent, tmp_path: Path) -> None:
    """``await connect()`` opens it until ``close``, or for an ``async with`` that follows; one that could not
    be opened is not open.
    """

    async def main() -> None:
        client = await library.connect(agent.address, timeout=PATIENCE)
        assert (await client.status()).state == "unlocked"
        async with client as entered:
            assert entered is client
            assert (await entered.status()).state == "unlocked"
        with pytest.raises(InvalidRequestError, match="after `await connect"):
            await client.status()
        assert (await (await client).status()).state == "unlocked"
        await client.close()
        nobody = library.connect(tmp_path / "nothing")
        with pytest.raises(AgentUnreachableError):
            await nobody
        with pytest.raises(InvalidRequestError, match="is not open"):
            await nobody.status()

    library.run(main)


def test_closing_during_a_reconnection_leaves_nothing_open(library: Library, tmp_path: Path) -> None:
    """A task that opens the connection again while another closes the client gets no connection: the agent
    sees its end, and no request.
    """
    reconnects, closed = threading.Event(), threading.Event()
    seen: list[str] = []

    def goes(peer: Peer) -> None:
        peer.greet()
        peer.request()

    def script(peer: Peer) -> None:
        hello, _ = peer.request()
        reconnects.set()
        assert closed.wait(PATIENCE)
        peer.answer(hello, GREETING)
        try:
            seen.append(peer.request()[0].op)
        except EOFError:
            seen.append("end")

    async def main() -> None:
        async with library.connect(agent.address) as client:

            async def close() -> None:
                await library.cancelled_when(sleep_forever(library), reconnects)
                await client.close()
                closed.set()

            waiting, _ = await library.all([lambda: client.get("a"), close])
            assert isinstance(waiting, InvalidRequestError)
            assert "not open" in str(waiting)

    with ScriptedAgent(tmp_path / "s", goes, script) as agent:
        library.run(main)
        assert agent.connections == 2
    assert seen == ["end"]


def sleep_forever(library: Library) -> Task:
    """A task that ends by cancellation only."""
    return trio.sleep_forever if isinstance(library, Trio) else asyncio.Event().wait


def test_errors_reach_the_caller_as_they_are(library: Library, tmp_path: Path) -> None:
    """An error inside the ``async with`` comes out as itself, not wrapped in a group."""

    async def main() -> None:
        with pytest.raises(AgentUnreachableError):
            async with library.connect(str(tmp_path / "nothing")):
                pass
        with pytest.raises(NotFoundError):
            async with library.connect(agent.address) as client:
                await client.get("a")

    def script(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        peer.fail(request, NotFoundError("no"))

    with ScriptedAgent(tmp_path / "s", script) as agent:
        library.run(main)


def test_the_type_has_a_public_name(library: Library) -> None:
    """What ``connect`` gives can be written in an annotation."""
    home = keyholt.trio if isinstance(library, Trio) else keyholt.asyncio
    assert isinstance(library.connect("/nowhere/s"), home.Client)
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
