"""The stream seam: what a socket's stream does, and that every client lives with another kind of stream."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

import keyholt
from keyholt import connecting, invocations
from keyholt.stream import MAX_PARTS, Ready, SocketStream, Stream
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.messages import SecretPutResult
from tests.client.conftest import RunningAgent
from tests.client.scripted import Peer, ScriptedAgent

CANARY = b"canary-73d0"


def test_a_socket_stream_never_waits() -> None:
    """Nothing there, no room, and the end are three different answers, and none of them blocks."""
    ours, theirs = socket.socketpair()
    stream, room = SocketStream(ours), memoryview(bytearray(10))
    with theirs:
        assert stream.receive_into(room) is None
        assert stream.send([b"ab", memoryview(b"cd")]) == 4
        theirs.send(theirs.recv(10))
        assert (stream.receive_into(room), bytes(room[:4])) == (4, b"abcd")
        taken = 0
        while sent := stream.send([bytes(100_000)]):
            taken += sent
        assert taken
    stream.close()
    stream.close()


def test_a_socket_stream_sends_nothing_to_one_that_has_gone() -> None:
    """The first send after the other side has closed fails; its last word can still be received."""
    ours, theirs = socket.socketpair()
    stream, room = SocketStream(ours), memoryview(bytearray(10))
    theirs.send(b"bye")
    theirs.close()
    with pytest.raises(BrokenPipeError):
        stream.send([b"x"])
    assert (stream.receive_into(room), stream.receive_into(room)) == (3, 0)
    stream.close()


def test_more_parts_than_one_call_takes() -> None:
    """What is beyond the kernel's limit is left for the next call."""
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    with theirs:
        assert stream.send([b"x"] * (MAX_PARTS + 1)) == MAX_PARTS
        stream.close()


def test_what_a_socket_stream_waits_for() -> None:
    """To be readable always, and to be writable too where something is to be sent."""
    ours, theirs = socket.socketpair()
    with theirs:
        stream = SocketStream(ours)
        number = ours.fileno()
        assert stream.waits_for(to_send=False) == Ready(number, readable=True, writable=False)
        assert stream.waits_for(to_send=True) == Ready(number, readable=True, writable=True)
        stream.close()


class HoardingStream:
    """Like TLS: takes whole records off the socket, gives them out in small pieces, and may hold the rest
    while the socket is silent. Sends no more than a few bytes at a time.
    """

    made = 0

    def __init__(self, sock: socket.socket) -> None:
        HoardingStream.made += 1
        self._stream: Stream = SocketStream(sock)
        self._held = b""

    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        return self._stream.send([b"".join(parts)[:1000]])

    def receive_into(self, room: memoryview) -> int | None:
        if not self._held:
            record = bytearray(16384)
            size = self._stream.receive_into(memoryview(record))
            if not size:
                return size
            self._held = bytes(record[:size])
        piece, self._held = self._held[: min(7, len(room))], self._held[min(7, len(room)) :]
        room[: len(piece)] = piece
        return len(piece)

    def waits_for(self, *, to_send: bool) -> Ready | None:
        return None if self._held else self._stream.waits_for(to_send=to_send)

    def finish_sending(self) -> None:
        self._stream.finish_sending()

    def close(self) -> None:
        self._stream.close()


@pytest.fixture
def hoarding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection of the test is carried by a ``HoardingStream``."""
    monkeypatch.setattr(connecting, "SocketStream", HoardingStream)
    monkeypatch.setattr(HoardingStream, "made", 0)


async def everything(agent: keyholt.trio.Client, path: str, value: bytes) -> None:
    """A write and a fetch of a value of many records."""
    await agent.put(path, value)
    assert (await agent.get(path)).bytes == value


@pytest.mark.usefixtures("hoarding")
def test_every_client_lives_with_a_stream_that_holds_bytes(agent: RunningAgent) -> None:
    """Blocking, trio and asyncio wait for no socket while the stream has something for them."""
    value = os.urandom(60_000)
    with keyholt.connect(agent.address) as client:
        client.put("stream/blocking", value)
        assert client.get("stream/blocking").bytes == value

    async def with_trio() -> None:
        with trio.fail_after(20):
            async with keyholt.trio.connect(agent.address) as connected:
                await everything(connected, "stream/trio", value)

    async def with_asyncio() -> None:
        async with asyncio.timeout(20), keyholt.asyncio.connect(agent.address) as connected:
            await everything(connected, "stream/asyncio", value)

    trio.run(with_trio)
    asyncio.run(with_asyncio())
    assert HoardingStream.made == 3


@pytest.mark.usefixtures("hoarding")
def test_a_batch_cut_anywhere_arrives_whole(tmp_path: Path) -> None:
    """Requests that are sent together, in pieces that end within one or between two, arrive in order."""
    paths = [f"{number}/x{'x' * number}" for number in range(60)]
    seen: list[RequestReceived] = []

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in paths:
            request, payload = peer.request()
            assert payload == str(request.args["path"]).encode() * 9
            seen.append(request)
        for request in seen:
            peer.answer(request, SecretPutResult(version=1, created=1))

    with ScriptedAgent(tmp_path / "s", script) as agent, keyholt.connect(agent.address) as client:
        results = list(client.perform_all(invocations.secret_put(path, path.encode() * 9) for path in paths))
    assert [request.args["path"] for request in seen] == paths
    assert [result.version for result in results] == [1] * len(paths)
