"""One connection, from its first byte to its last: frames in, calls made, replies out.

- A payload is received into locked memory and sent from it. What the shared receive buffer saw of it is wiped
  before the buffer is used again; nothing waits while bytes are in that buffer.
- A request that need not wait is answered before the next one is read. One that must wait runs in a task of
  the session, and its reply may overtake others.
- A reply that the peer does not take stops the reading, and the next value is fetched only once the one
  before was taken: a peer that never reads holds little of the locked memory, and for a limited time; one
  that asks for much at once gets all of it.
- A peer can end its own session, by misuse or by leaving, and nothing else. ``serve`` raises for nothing
  that a peer or a handler does.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable
from typing import Final, cast

import trio

from keyholt_agent.memory import Arena, LockedBuffer, wipe
from keyholt_agent.pipeline import Call, Pipeline, Reply
from keyholt_agent.principal import Principal
from keyholt_agent.transport.outbox import Outbox
from keyholt_agent.transport.stream import ByteStream, PeerGoneError
from keyholt_protocol.codec import to_map
from keyholt_protocol.connection import RequestReceived, ServerConnection
from keyholt_protocol.errors import (
    DeadlineExceededError,
    InternalError,
    KeyholtError,
    LocalProtocolError,
    RemoteProtocolError,
    ResourceExhaustedError,
    error_from_wire,
)
from keyholt_protocol.limits import FRAME_DEADLINE, MAX_IN_FLIGHT
from keyholt_protocol.operations import Permission

__all__ = ["Session"]

_IN_TURN: Final = frozenset({Permission.READ, Permission.LIST})
"""What gives out values or pages: at most one such answer of a connection waits for its peer."""

_log: Final = logging.getLogger("keyholt.session")


class Session:
    """Serves one peer over one stream, which it owns.

    Args:
        stream: the connection; closed when ``serve`` ends.
        principal: who is at the other end.
        pipeline: where requests go.
        arena: where payloads are held.
        buffer: locked memory to receive into, shared by every session of the agent.
    """

    def __init__(
        self, stream: ByteStream, principal: Principal, pipeline: Pipeline, arena: Arena, buffer: LockedBuffer
    ) -> None:
        self._stream = stream
        self._principal = principal
        self._pipeline = pipeline
        self._arena = arena
        self._buffer = buffer.view
        self._connection = ServerConnection()
        self._incoming: tuple[int, Call] | None = None  # a call whose payload is on its way
        self._waiting: list[tuple[int, Call, Awaitable[Reply]]] = []  # about to get tasks of their own
        self._fetching = 0  # calls for a value that have tasks of their own
        self._turn = trio.Lock()  # held by the one of them that may fetch
        self._outbox = Outbox(stream, FRAME_DEADLINE)
        self._frames = 0  # received whole
        self._mid_frame = False  # another one has begun
        self._deadline = trio.current_time() + FRAME_DEADLINE  # to say hello, then for a frame begun

    async def serve(self) -> None:
        """Serve the peer until it leaves, breaks a rule, or takes too long."""
        try:
            await self._serve()
        except* PeerGoneError:
            pass
        except* Exception as group:  # the session's edge: nothing of one connection may end another
            _log_defect(group)
        finally:
            self._release()
            self._stream.close()

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                while size := await self._receive():
                    try:
                        self._process(size)
                    finally:  # what was asked before a broken rule is still answered
                        while self._waiting:
                            nursery.start_soon(self._answer_later, *self._waiting.pop(0))
                    if self._outbox:
                        await self._outbox.flush()
            except RemoteProtocolError as error:
                self._outbox.send_nowait(self._connection.send_error(0, _as_error(error)))
            except _TooSlowError:
                self._outbox.send_nowait(self._connection.send_error(0, DeadlineExceededError(_TOO_SLOW)))
        await self._outbox.flush()

    # receiving

    async def _receive(self) -> int:
        """Wait for bytes, into the payload under way or the shared buffer; 0 at the end of the stream."""
        while True:
            # First the others' turn: by then the next request of a busy peer is there, and trying costs less
            # than waiting (a third of the transport's time, measured with 64 connections).
            await trio.lowlevel.checkpoint()
            room = self._connection.payload_room()
            size = self._stream.receive_nowait(self._buffer if room is None else room)
            if size is not None:
                return size
            await self._wait_readable()

    async def _wait_readable(self) -> None:
        if self._connection.greeted and not self._mid_frame:
            await self._stream.wait_readable()
            return
        with trio.move_on_at(self._deadline):
            await self._stream.wait_readable()
            return
        raise _TooSlowError

    def _process(self, size: int) -> None:
        """Act on ``size`` bytes just received; calls that have to wait are put into ``_waiting``."""
        connection = self._connection
        began_mid_frame, frames = self._mid_frame, self._frames
        if began_mid_frame and connection.payload_room() is not None:
            connection.payload_received(size)
            self._act()
        else:
            connection.receive_data(self._buffer[:size])
            secret = True  # unless it turns out that no part of a payload can have been received
            try:
                secret = self._act() or began_mid_frame
            finally:
                if secret:
                    wipe(self._buffer[:size])
        self._mid_frame = connection.mid_frame
        if self._mid_frame and (self._frames != frames or not began_mid_frame):
            self._deadline = trio.current_time() + FRAME_DEADLINE  # another frame has begun

    def _act(self) -> bool:
        """Act on every event there is; gives whether a payload was announced among them."""
        announced = False
        while (event := self._connection.next_event()) is not None:
            if isinstance(event, RequestReceived):
                self._on_request(event)
                if event.payload_size:
                    announced = True
                    continue
            elif self._incoming is not None:
                (request_id, call), self._incoming = self._incoming, None
                self._invoke(request_id, call)
            self._frames += 1
        return announced

    def _on_request(self, event: RequestReceived) -> None:
        try:
            self._check_share()
            call = self._pipeline.admit(event, self._principal)
            if call.takes_payload:
                call.payload = self._arena.allocate(event.payload_size)
        except Exception as error:
            if event.payload_size:
                self._connection.accept_payload(None)
            self._send_error(event.id, error)
            return
        if event.payload_size and call.payload is not None:
            self._connection.accept_payload(call.payload.view)
            self._incoming = event.id, call
        else:
            self._invoke(event.id, call)

    def _check_share(self) -> None:
        """Refuse a request of a peer that has too many in hand: it has answers to read first."""
        if self._connection.in_flight + len(self._outbox) > MAX_IN_FLIGHT:
            raise ResourceExhaustedError(
                f"more than {MAX_IN_FLIGHT} requests are in flight on this connection; read answers first"
            )

    # calling

    def _invoke(self, request_id: int, call: Call) -> None:
        fetches = call.operation.permission in _IN_TURN
        try:
            if fetches and (self._fetching or self._outbox):
                outcome: Reply | Awaitable[Reply] = self._invoke_in_turn(call)
            else:
                outcome = self._pipeline.invoke(call)
        except Exception as error:
            _release(call.payload)
            self._send_error(request_id, error)
            return
        if isinstance(outcome, Reply):
            _release(call.payload)
            self._send_reply(request_id, outcome)
        else:
            self._fetching += fetches
            self._waiting.append((request_id, call, outcome))

    async def _invoke_in_turn(self, call: Call) -> Reply:
        """Fetch a value once the peer has taken every answer so far: one at a time lies in locked memory."""
        async with self._turn:
            await self._outbox.flush()
            outcome = self._pipeline.invoke(call)
            return outcome if isinstance(outcome, Reply) else await outcome

    async def _answer_later(self, request_id: int, call: Call, outcome: Awaitable[Reply]) -> None:
        try:
            reply = await outcome
        except PeerGoneError:
            raise
        except Exception as error:
            self._send_error(request_id, error)
        else:
            self._send_reply(request_id, reply)
        finally:
            self._fetching -= call.operation.permission in _IN_TURN
            _release(call.payload)
        if self._outbox:
            await self._outbox.flush()

    # sending

    def _send_reply(self, request_id: int, reply: Reply) -> None:
        size = 0 if reply.payload is None else len(reply.payload)
        try:
            head = self._connection.send_result(request_id, to_map(reply.result), size)
        except LocalProtocolError as error:  # the result does not fit a header
            _release(reply.payload)
            self._send_error(request_id, error)
        else:
            self._outbox.send_nowait(head, reply.payload)

    def _send_error(self, request_id: int, error: Exception) -> None:
        if isinstance(error, InternalError) or not isinstance(error, KeyholtError):
            _log_defect(error)
            error = InternalError()
        self._outbox.send_nowait(self._connection.send_error(request_id, error))

    def _release(self) -> None:
        if self._incoming is not None:
            _release(self._incoming[1].payload)
        self._outbox.release()


class _TooSlowError(Exception):
    """The peer did not say hello, or did not finish a frame, in time."""


_TOO_SLOW: Final = f"a frame must be whole within {FRAME_DEADLINE} seconds; connect again"


def _release(payload: LockedBuffer | None) -> None:
    if payload is not None:
        payload.release()


def _as_error(error: RemoteProtocolError) -> KeyholtError:
    return error_from_wire(error.code.wire_name, str(error))


def _log_defect(error: BaseException) -> None:
    """Log where a defect happened, by file, line and function; its message might repeat a peer's data."""
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            _log_defect(one)
        return
    frames = traceback.extract_tb(error.__traceback__)
    places = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    _log.error("defect: %s at %s", type(error).__name__, places)
