"""An agent that always has more to send, or always takes more, holds up no deadline and no other task."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import keyholt
from keyholt import connecting, invocations
from keyholt.address import parse
from keyholt.channel import AT_ONCE, RECEIVE_SIZE, Channel
from keyholt.connecting import Pause
from keyholt.exchange import Exchange
from keyholt.polling import Poller
from keyholt.stream import Ready, SocketStream
from keyholt_protocol.codec import pack_header
from keyholt_protocol.errors import AgentUnreachableError, DeadlineExceededError
from keyholt_protocol.framing import frame_head
from keyholt_protocol.limits import MAX_RESPONSE_HEADER
from tests.client.libraries import Library
from tests.client.scripted import Peer, ScriptedAgent

LARGE = 2 * 1024 * 1024
HUGE = 8 * AT_ONCE
TIMES = (0.05, 1, 20)
"""Seconds that a call has; more of them if the agent's answer did not begin before its end."""


class DrippingStream(SocketStream):
    """Has another byte of a large value whenever it is asked, and never lets anybody wait."""

    __slots__ = ("_dripping",)

    drops = 0

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._dripping = False

    def receive_into(self, room: memoryview) -> int | None:
        self._dripping = len(room) > RECEIVE_SIZE  # else it is no value, or the end of one
        if not self._dripping:
            return super().receive_into(room)
        DrippingStream.drops += 1
        room[:1] = b"x"
        return 1

    def waits_for(self, *, to_send: bool) -> Ready | None:  # type: ignore[override]
        return None if self._dripping else super().waits_for(to_send=to_send)


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection of the test is carried by a ``DrippingStream``."""
    monkeypatch.setattr(connecting, "SocketStream", DrippingStream)
    monkeypatch.setattr(DrippingStream, "drops", 0)


def announce(peer: Peer) -> None:
    """Answer a get with the beginning of its answer alone: so much that the value is asked for once."""
    peer.greet()
    request, _ = peer.request()
    head = peer._connection.send_result(request.id, {"version": 1, "created": 1}, LARGE)
    peer.send(head + bytes(2 * RECEIVE_SIZE))
    with pytest.raises(EOFError):
        peer.request()


@pytest.mark.usefixtures("dripping")
def test_a_deadline_holds_while_there_is_always_more(tmp_path: Path) -> None:
    """The blocking client looks at the time in between, long before the value is whole."""
    for seconds in TIMES:
        with (
            ScriptedAgent(tmp_path / str(seconds), announce) as agent,
            keyholt.connect(agent.address) as client,
            pytest.raises(DeadlineExceededError),
        ):
            client.get("a", timeout=seconds)
        assert DrippingStream.drops < LARGE - RECEIVE_SIZE
        if DrippingStream.drops:
            break
    assert DrippingStream.drops


@pytest.mark.usefixtures("dripping")
def test_other_tasks_have_their_turn_meanwhile(library: Library, tmp_path: Path) -> None:
    """So has the deadline of the call itself."""
    turns = 0

    async def main() -> None:
        nonlocal turns
        over = False

        async def others() -> None:
            nonlocal turns
            while not over:
                turns += DrippingStream.drops > 0
                await client._library.turn()

        async def get() -> None:
            nonlocal over
            try:
                with pytest.raises(DeadlineExceededError):
                    await client.get("a", timeout=seconds)
            finally:
                over = True

        async with library.connect(agent.address) as client:
            assert await library.all([others, get]) == [None, None]

    for seconds in TIMES:
        with ScriptedAgent(tmp_path / str(seconds), announce) as agent:
            library.run(main)
        assert DrippingStream.drops < LARGE - RECEIVE_SIZE
        if turns > 10:
            break
    assert turns > 10


def test_nothing_comes_in_time_after_the_deadline() -> None:
    """Neither what is there already nor a pause."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        ready, poller = Ready(ours.fileno(), readable=True, writable=False), Poller()
        assert poller.wait(ready, time.monotonic() + 10)
        assert poller.wait(ready, math.inf)
        assert not poller.wait(ready, time.monotonic() - 1)
        assert not poller.wait(Pause(0.0), time.monotonic() - 1)


class GreedyStream:
    """Takes all that it is given until it is deaf, and gives the answer to request 1: of its value as much as
    there is room for.
    """

    def __init__(self) -> None:
        self.sent = self.given = 0
        self.deaf = False
        self._header = pack_header({"id": 1, "ok": True, "result": {"version": 1, "created": 1}})

    def send(self, parts: Sequence[memoryview | bytes]) -> int:
        if self.deaf:
            raise BrokenPipeError
        size = sum(map(len, parts))
        self.sent += size
        return size

    def receive_into(self, room: memoryview) -> int | None:
        if not self.sent:
            return None
        if self.given == HUGE:
            return 0 if self.deaf else None
        if not self.given and len(room) == RECEIVE_SIZE:
            head = frame_head(self._header, HUGE, MAX_RESPONSE_HEADER)
            room[: len(head)] = head
            return len(head)
        self.given += len(room)
        return len(room)

    def waits_for(self, *, to_send: bool) -> Ready | None:
        return None

    def finish_sending(self) -> None: ...

    def close(self) -> None: ...


def test_a_turn_of_the_pump_moves_a_bounded_part() -> None:
    """However much is to be sent, of however many requests, and to be received."""
    exchanges: list[Exchange[Any]] = [
        Exchange(invocations.secret_get("a")),
        *(Exchange(invocations.secret_put("b", bytes(HUGE))) for _ in range(3)),
    ]
    stream = GreedyStream()
    channel = Channel(stream, parse("/nowhere/s"))
    for exchange in exchanges:
        channel.enqueue(exchange)
    turns = 0
    while turns < 100 and not (exchanges[0].ended and not channel.wants_write):
        before = stream.sent, stream.given
        assert channel.pump()
        assert stream.sent - before[0] <= AT_ONCE
        assert stream.given - before[1] <= AT_ONCE
        turns += 1
    assert len(exchanges[0].outcome().bytes) == HUGE
    assert stream.sent > 3 * HUGE
    channel.fail()


def test_one_that_takes_nothing_more_is_read_to_its_end() -> None:
    """In bounded parts too. What it answers counts; what it did not take was not sent."""
    get, put = Exchange(invocations.secret_get("a")), Exchange(invocations.secret_put("b", b"x"))
    stream = GreedyStream()
    channel = Channel(stream, parse("/nowhere/s"))
    channel.submit(get)
    assert channel.pump()
    stream.deaf = True
    channel.submit(put)
    assert (channel.finishing, channel.failed, put.ended) == (True, False, False)
    turns = 0
    while turns < 100 and not channel.failed:
        before = stream.given
        channel.pump()
        assert stream.given - before <= AT_ONCE
        turns += 1
    assert len(get.outcome().bytes) == HUGE
    assert put.repeatable
    with pytest.raises(AgentUnreachableError, match="it was not carried out"):
        put.outcome()
