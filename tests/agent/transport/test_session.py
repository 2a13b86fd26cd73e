"""One session over a socket pair, with a clock of the test's own: what a peer owes and in what time.

Sessions are driven two-ended, and again with every byte on its own.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.pipeline import Reply
from keyholt_agent.transport.visit import Visit
from keyholt_protocol.limits import FRAME_DEADLINE
from tests.support.inside import with_handler
from tests.support.wire import HELLO_ARGS, frame, request_frame

if TYPE_CHECKING:
    from tests.support.inside import Inside, Peer

PUT: Final = request_frame(77, "secret.put", {"path": "slow"}, b"v" * 300)
HELLO: Final = request_frame(1, "session.hello", HELLO_ARGS)


async def told_to_go(peer: Peer, clock: MockClock) -> str:
    """The code of the error that ends the connection, which has to come without any more waiting."""
    clock.autojump_threshold = 0
    with trio.fail_after(1):
        (reply,) = await peer.farewell()
    assert reply.id == 0
    return reply.code


@pytest.mark.parametrize("size", [0, 1, 8, 9, 20])
async def test_hello_in_time(inside: Inside, mock_clock: MockClock, size: int) -> None:
    """Whoever has not said hello in time, or not all of it, is told so and let go."""
    peer = await inside.connect(greet=False)
    await peer.send(HELLO[:size])
    await wait_all_tasks_blocked()
    mock_clock.jump(FRAME_DEADLINE + 1)
    assert await told_to_go(peer, mock_clock) == "deadline_exceeded"
    assert inside.held == 0


async def test_refused_hello_buys_no_time(inside: Inside, mock_clock: MockClock) -> None:
    """An accepted hello is due in time of the connecting, whatever was refused, or begun, before it."""
    peer = await inside.connect(greet=False)
    refused = request_frame(1, "session.hello", {"version": 99})
    await peer.send(refused[:10])
    for _ in range(3):
        await wait_all_tasks_blocked()
        mock_clock.jump(FRAME_DEADLINE / 4)
        await peer.send(refused[10:] + refused[:10])
        assert (await peer.receive()).code == "unsupported"
    await wait_all_tasks_blocked()
    mock_clock.jump(FRAME_DEADLINE / 4 + 1)
    assert await told_to_go(peer, mock_clock) == "deadline_exceeded"


async def test_refusals_that_nobody_takes_buy_no_time(inside: Inside, mock_clock: MockClock) -> None:
    """Who says wrong hellos and reads no answer is let go as early, without a word more."""
    peer = await inside.connect(greet=False)
    hello = request_frame(2, "session.hello", {"version": 99})
    mock_clock.jump(FRAME_DEADLINE / 2)
    sent = -1
    while sent:  # until the agent takes nothing more, for it cannot answer
        sent = 0
        with suppress(BlockingIOError):
            for _ in range(10_000):
                sent += os.write(peer.stream.socket.fileno(), hello)
        await wait_all_tasks_blocked()
    mock_clock.jump(FRAME_DEADLINE / 2 + 1)
    await wait_all_tasks_blocked()
    mock_clock.autojump_threshold = 0
    with trio.fail_after(1):
        assert {reply.code for reply in await peer.farewell()} == {"unsupported"}


async def test_greeted_peer_may_be_idle(inside: Inside, mock_clock: MockClock) -> None:
    """Between frames nobody owes anything, however long."""
    peer = await inside.connect()
    for _ in range(3):
        await wait_all_tasks_blocked()
        mock_clock.jump(1_000_000)
        (await peer.call("agent.status")).expect()


@pytest.mark.parametrize("size", [1, 7, 8, 9, len(PUT) - 300, len(PUT) - 299, len(PUT) - 1])
async def test_stall_within_a_frame(inside: Inside, mock_clock: MockClock, size: int) -> None:
    """A frame that is not whole in time ends the connection, and its locked memory is back."""
    peer, other = await inside.connect(), await inside.connect()
    await peer.send(PUT[:size])
    await wait_all_tasks_blocked()
    mock_clock.jump(FRAME_DEADLINE - 1)
    await wait_all_tasks_blocked()
    assert (await other.call("secret.get", path="slow")).code == "not_found"
    mock_clock.jump(2)
    assert await told_to_go(peer, mock_clock) == "deadline_exceeded"
    assert inside.held == 0
    assert (await other.call("secret.get", path="slow")).code == "not_found"


async def test_drop_by_drop_is_a_stall(inside: Inside, mock_clock: MockClock) -> None:
    """The time is for the frame, not for the next byte: a byte now and then buys no more of it."""
    peer = await inside.connect()
    for byte in PUT[:31]:
        await peer.send(bytes([byte]))
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
    assert await told_to_go(peer, mock_clock) == "deadline_exceeded"


async def test_stream_of_frames_never_at_rest(inside: Inside, mock_clock: MockClock) -> None:
    """A peer whose every send ends within a frame, each sent in good time, is not taken for a slow one."""
    peer = await inside.connect()
    status = request_frame(5, "agent.status", {})
    await peer.send(status[:10])
    for _ in range(20):
        await wait_all_tasks_blocked()
        mock_clock.jump(FRAME_DEADLINE / 2)
        await peer.send(status[10:] + status[:10])
        (await peer.receive()).expect()
    await peer.send(status[10:])
    (await peer.receive()).expect()


async def test_peer_that_takes_nothing(inside: Inside, mock_clock: MockClock) -> None:
    """It is let go in time, with its answers half sent; the locked memory is back, others were served."""
    peer, other = await inside.connect(), await inside.connect()
    (await other.call("secret.put", os.urandom(1024 * 1024), path="big")).expect()
    for _ in range(64):
        await peer.request("secret.get", path="big")
    await wait_all_tasks_blocked()
    assert 0 < inside.held <= 1024 * 1024 + 64
    (await other.call("agent.status")).expect()
    mock_clock.jump(FRAME_DEADLINE + 1)
    await wait_all_tasks_blocked()
    assert inside.held == 0
    assert len((await other.call("secret.get", path="big")).payload) == 1024 * 1024


async def test_slow_reader_is_not_a_silent_one(inside: Inside, mock_clock: MockClock) -> None:
    """The time is for each frame: who takes them, however slowly, gets them all."""
    peer = await inside.connect()
    (await peer.call("secret.put", os.urandom(1024 * 1024), path="big")).expect()
    ids = {await peer.request("secret.get", path="big") for _ in range(10)}
    while ids:
        await wait_all_tasks_blocked()
        mock_clock.jump(FRAME_DEADLINE / 2)
        ids.remove((await peer.receive()).expect().id)


@pytest.mark.parametrize(
    "breach",
    [b"\xff" * 8, frame(b"\xc1"), frame(b"\xc1", b"payload with it" * 10)],
    ids=["length", "header", "header before a payload"],
)
async def test_what_was_asked_before_a_breach_is_answered(inside: Inside, breach: bytes) -> None:
    """Requests whole before the broken rule, in the same breath, are carried out and answered."""
    peer = await inside.connect()
    await peer.send(request_frame(5, "secret.put", {"path": "kept"}, b"value") + breach)
    replies = {reply.id: reply.code for reply in await peer.farewell()}
    assert replies == {5: "", 0: "invalid_request" if breach[0] == 0 else "too_large"}
    other = await inside.connect()
    assert (await other.call("secret.get", path="kept")).payload == b"value"
    assert inside.held == 0


@pytest.mark.parametrize(
    "data",
    [
        frame(b"\xc1", b"CANARY-CANARY" * 3),
        request_frame(5, "secret.put", {"path": "a", "odd": 1}, b"CANARY-CANARY" * 3),
        request_frame(5, "nobody.knows", {}, b"CANARY-CANARY" * 3),
        request_frame(5, "secret.put", {"path": "a"}, b"CANARY-CANARY" * 3),
        request_frame(5, "secret.put", {"path": "a"}, b"CANARY-CANARY" * 3, announced=5000),
        request_frame(5, "secret.get", {"path": "none"}) + frame(b"\xc1", b"CANARY-CANARY" * 3),
    ],
    ids=["garbage", "unknown field", "unknown operation", "whole", "unfinished", "after an answer"],
)
async def test_receive_buffer_keeps_no_payload(inside: Inside, data: bytes) -> None:
    """Whatever became of a frame, nothing of its payload stays in the buffer that all sessions share."""
    peer = await inside.connect()
    await peer.send(data)
    await wait_all_tasks_blocked()
    assert b"CANARY" not in inside.buffer
    await peer.stream.aclose()


async def test_answers_to_one_that_left(inside: Inside) -> None:
    """A peer that leaves with writes under way: they are carried out or not, and all its memory is back."""
    for _ in range(10):
        peer = await inside.connect()
        await peer.send(
            b"".join(request_frame(n, "secret.put", {"path": "left"}, b"v" * 1000) for n in range(2, 20))
        )
        await peer.stream.aclose()
    await wait_all_tasks_blocked()
    other = await inside.connect()
    (await other.call("secret.put", b"v", path="left")).expect()
    with trio.fail_after(5):
        while inside.held:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 13, 1000])
async def test_any_split_means_the_same(inside: Inside, step: int) -> None:
    """Requests cut anywhere, one byte at a time included, get the answers of whole ones."""
    value = bytes(range(256))
    requests = [
        ("session.hello", HELLO_ARGS, b""),
        ("secret.put", {"path": "cut/put"}, value),
        ("secret.put", {"path": "cut/empty"}, b""),
        ("secret.get", {"path": "cut/put", "odd": True}, b""),
        ("secret.get", {"path": "cut/none"}, b"a payload that nobody takes"),
        ("nobody.knows", {}, b"nor this"),
        ("secret.get", {"path": "cut/put"}, b""),
        ("secret.get", {"path": "cut/empty"}, b""),
    ]
    peer = await inside.connect(greet=False)
    found: list[tuple[str, bytes]] = []
    for number, (op, args, payload) in enumerate(requests, 1):
        data = request_frame(number, op, args, payload)
        for start in range(0, len(data), step):
            await peer.send(data[start : start + step])
            await wait_all_tasks_blocked()
        reply = await peer.receive()
        assert reply.id == number
        found.append((reply.code, reply.payload))
    assert [code for code, _ in found] == ["", "", "", *["invalid_request"] * 2, "unsupported", "", ""]
    assert [payload for _, payload in found[-2:]] == [value, b""]


async def test_handler_that_fails_ends_nobody(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """A defect of a handler, at once or later, is ``internal``; nothing of the request is in the log."""

    def at_once(*_: object) -> object:
        raise RuntimeError("CANARY")

    async def later(*_: object) -> object:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("CANARY", [ValueError("CANARY")])

    for handler in (at_once, later):
        inside.use(with_handler(inside.services, "secret.put", handler))
        peer = await inside.connect()
        assert (await peer.call("secret.put", b"CANARY", path="CANARY")).code == "internal"
        (await peer.call("agent.status")).expect()
    assert "defect" in caplog.text
    assert "CANARY" not in caplog.text
    assert inside.held == 0


async def test_outcome_that_cannot_be_concluded(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the audit fails, of an answer that is there at once or later: its connection ends, no other."""
    other = await inside.connect()
    (await other.call("secret.put", b"v", path="a")).expect()
    for op, args in (("secret.get", {"path": "a"}), ("secret.list", {})):
        peer = await inside.connect()

        def broken(*_: object) -> None:
            raise ZeroDivisionError("CANARY")

        with monkeypatch.context() as patch:
            patch.setattr(inside._server._pipeline, "_audit", broken)
            await peer.request(op, **args)
            assert await peer.farewell() == []
        (await other.call("agent.status")).expect()
        assert "defect: ZeroDivisionError" in caplog.text
        assert "CANARY" not in caplog.text
        caplog.clear()
    assert inside.held == 0


async def test_reply_that_does_not_fit(inside: Inside) -> None:
    """An answer over the limits, a defect, is ``internal``; the connection goes on, its memory is back."""
    from keyholt_protocol.messages import SecretGetResult

    def too_long(*_: object) -> Reply[SecretGetResult]:
        return Reply(
            result=SecretGetResult(version=1, created=1, labels={"x": "y" * 70_000}),
            payload=inside.services.arena.allocate(100),
        )

    inside.use(with_handler(inside.services, "secret.get", too_long))
    peer = await inside.connect()
    assert (await peer.call("secret.get", path="a")).code == "internal"
    (await peer.call("agent.status")).expect()
    assert inside.held == 0


async def test_calls_without_end_are_waited_for_one_after_the_other(inside: Inside) -> None:
    """A peer that always has a further fetch in its queue is served on and on, and so are the others."""
    peer, other = await inside.connect(), await inside.connect()
    for _ in range(40):
        await peer.request("secret.get", path="none")
    for _ in range(2 * sys.getrecursionlimit()):
        assert (await peer.receive()).code == "not_found"
        await peer.request("secret.get", path="none")
    (await other.call("agent.status")).expect()
    await peer.stream.aclose()


async def test_payload_that_never_comes_whole_is_given_back(inside: Inside, mock_clock: MockClock) -> None:
    """Its memory is back when nothing more is read of its peer, though an answer is still to be taken."""
    peer, other = await inside.connect(), await inside.connect()
    (await other.call("secret.put", os.urandom(1024 * 1024), path="big")).expect()
    await peer.send(request_frame(5, "secret.get", {"path": "big"}))
    await wait_all_tasks_blocked()
    await peer.send(request_frame(6, "secret.put", {"path": "half"}, b"v" * 10, announced=1024 * 1024))
    await peer.stream.send_eof()
    assert (await peer.receive()).expect().payload
    await wait_all_tasks_blocked()
    assert inside.held == 0


async def test_defect_after_an_answer_ends_one_connection(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is watched, and for what, is worked out within the same guard as the rest."""
    peer, other = await inside.connect(), await inside.connect()

    def out_of_memory(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(Visit, "_watch", out_of_memory)
    third = await inside.connect(greet=False)
    monkeypatch.undo()
    assert await third.farewell() == []  # it is closed
    (await peer.call("agent.status")).expect()
    (await other.call("agent.status")).expect()
    assert "defect" in caplog.text
