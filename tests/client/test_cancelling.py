"""Calls that are cancelled, each test once with trio and once with asyncio: they take nobody along."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from keyholt.asynchronous import AsyncClient
from keyholt.channel import Channel
from keyholt_protocol.errors import AgentUnreachableError, DeadlineExceededError
from keyholt_protocol.messages import SecretPutResult
from tests.client.libraries import PATIENCE, Library, answer_get
from tests.client.scripted import Peer, ScriptedAgent

CANARY = b"canary-9e21"
LARGE = 4 * 1024 * 1024


@pytest.mark.parametrize("leader", [True, False])
def test_a_cancelled_call_takes_nobody_along(library: Library, tmp_path: Path, leader: bool) -> None:
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
        async with library.connect(agent.address) as client:

            async def stays() -> None:
                assert (await client.get("stays")).text == "stays"

            async def goes() -> None:
                await library.cancelled_when(lambda: client.get("goes"), both_came)
                cancelled.set()

            assert await library.all([goes, stays] if leader else [stays, goes]) == [None, None]
            assert (await client.get("next")).text == "next"
            assert client._channel is not None
            assert not client._channel._open

    with ScriptedAgent(tmp_path / "s", script) as agent:
        library.run(main)
        assert agent.connections == 1


def test_a_value_cancelled_half_received_is_wiped(library: Library, tmp_path: Path) -> None:
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
        async with library.connect(agent.address) as client:
            await library.cancelled_when(lambda: client.get("large"), half)
            assert client._channel is not None
            (exchange,) = client._channel._open.values()
            cancelled.set()
            assert (await client.get("next")).text == "next"
            assert exchange.value in (b"", bytes(LARGE))

    with ScriptedAgent(tmp_path / "s", script) as agent:
        library.run(main)
        assert agent.connections == 1


def test_a_request_cut_in_half_is_the_last_on_its_connection(library: Library, tmp_path: Path) -> None:
    """Cancelling a large put while it is being sent closes the sending side: the agent sees its end, never
    another request in the middle; a get that it leaves unanswered is made again on a new connection.
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
        async with library.connect(agent.address) as client:

            async def put() -> None:
                await library.cancelled_when(lambda: client.put("large", bytes(4 * LARGE)), began)
                gone.set()

            async def get() -> None:
                assert (await client.get("beside")).text == "beside"

            assert await library.all([get, put]) == [None, None]

    with ScriptedAgent(tmp_path / "s", stall, script) as agent:
        library.run(main)
        assert agent.connections == 2
    assert ended


@pytest.mark.parametrize("giving_up", ["cancelled", "overdue"])
def test_neighbours_of_a_request_cut_in_half_get_their_answers(
    library: Library, tmp_path: Path, giving_up: str
) -> None:
    """A write that was sent whole before it is answered where it was sent; one that stood behind it is made
    on a new connection. The old one is closed when its last answer has come.
    """
    began, gone = threading.Event(), threading.Event()
    seen: list[str] = []

    def first(peer: Peer) -> None:
        peer.greet()
        whole, _ = peer.request()
        assert peer.sock.recv(1000)  # the large one has begun
        began.set()
        assert gone.wait(PATIENCE)
        while peer.sock.recv(65536):
            pass
        seen.append("the sending side was closed")
        peer.answer(whole, SecretPutResult(version=7, created=1))
        assert not peer.sock.recv(1)
        seen.append("the connection was closed")

    def second(peer: Peer) -> None:
        peer.greet()
        request, _ = peer.request()
        seen.append(str(request.args["path"]))
        peer.answer(request, SecretPutResult(version=1, created=1))

    async def main() -> None:
        async with library.connect(agent.address) as client:

            async def large() -> None:
                await until(client, lambda channel: bool(channel._open))  # the whole one has been sent
                if giving_up == "cancelled":
                    await library.cancelled_when(lambda: client.put("large", bytes(4 * LARGE)), began)
                else:
                    with pytest.raises(DeadlineExceededError):
                        await client.put("large", bytes(4 * LARGE), timeout=0.3)
                gone.set()

            async def behind() -> None:
                await until(client, lambda channel: bool(channel._queue))  # the large one is half sent
                assert (await client.put("behind", CANARY)).version == 1

            async def whole() -> None:
                assert (await client.put("whole", CANARY)).version == 7

            assert await library.all([whole, large, behind]) == [None] * 3

    with ScriptedAgent(tmp_path / "s", first, second) as agent:
        library.run(main)
    assert seen == ["the sending side was closed", "the connection was closed", "behind"]


def test_closing_ends_what_is_still_answered_on_an_earlier_connection(
    library: Library, tmp_path: Path
) -> None:
    """A client that is closed waits for nothing, on whichever of its connections."""
    began = threading.Event()
    kept: list[socket.socket] = []

    def first(peer: Peer) -> None:
        peer.greet()
        peer.request()
        assert peer.sock.recv(1000)
        began.set()
        kept.append(peer.sock.dup())  # and no answer

    def second(peer: Peer) -> None:
        peer.greet()
        answer_get(peer, peer.request()[0])

    async def main() -> None:
        async with library.connect(agent.address) as client:

            async def large() -> None:
                await until(client, lambda channel: bool(channel._open))
                await library.cancelled_when(lambda: client.put("large", bytes(4 * LARGE)), began)
                assert (await client.get("next")).text == "next"
                await client.close()

            waiting, _ = await library.all([lambda: client.put("whole", CANARY), large])
            assert isinstance(waiting, AgentUnreachableError)
            assert "may or may not" in str(waiting)
            assert all(channel.failed for channel in client._finishing)

    with ScriptedAgent(tmp_path / "s", first, second) as agent:
        library.run(main)
    for sock in kept:
        sock.close()


async def until(client: AsyncClient, true: Callable[[Channel], bool]) -> None:
    """Let other tasks go on until the client's connection is so."""
    while client._channel is None or not true(client._channel):
        await client._library.turn()


def test_a_large_put_does_not_wait_behind_unread_answers(library: Library, tmp_path: Path) -> None:
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
        async with library.connect(agent.address) as client:
            await library.cancelled_when(lambda: client.get("large"), came)
            assert (await client.put("large", bytes(LARGE))).created == LARGE

    with ScriptedAgent(tmp_path / "s", script) as agent:
        library.run(main)
