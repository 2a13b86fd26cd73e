"""One connection, from its first byte to its last: frames in, calls made, replies out, without ever waiting.

The server calls ``serve_ready`` when the stream is ready for what the session ``awaits``, starts a task for
each call in ``unstarted``, which must wait, and brings its outcome back with ``answer``.

- A payload is received into locked memory and sent from it. What the shared receive buffer saw of it is wiped
  before the buffer is used again.
- A request that need not wait is answered before the next one is read. One that must wait is answered when
  its outcome is there, and its reply may overtake others.
- A reply that the peer does not take stops the reading, and the next value is fetched only once the one
  before was taken: a peer that never reads holds little of the locked memory, and for a limited time; one
  that asks for much at once gets all of it (docs/adr/0009).
- In one turn little of a connection is read, and the rest of one frame: however much a peer sends, the others
  have their turn (``SHARE``, ``turns``).
- When the agent is locked, what has not left does not leave: ``forget_secrets``.
- A peer can end its own session, by misuse or by leaving, and nothing else: what ``serve_ready`` and
  ``answer`` raise is the session's end, and the server's to contain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from enum import Enum
from typing import Any, Final

from keyholt_agent.defects import log_defect
from keyholt_agent.memory import LockedBuffer, wipe
from keyholt_agent.pipeline import Call, Outcome, Pipeline, Reply
from keyholt_agent.principal import Principal
from keyholt_agent.transport.outbox import Outbox
from keyholt_agent.transport.stream import ByteStream, PeerGoneError
from keyholt_protocol.codec import to_map
from keyholt_protocol.errors import (
    BusyError,
    DeadlineExceededError,
    InternalError,
    KeyholtError,
    LocalProtocolError,
    LockedError,
    RemoteProtocolError,
)
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.limits import FRAME_DEADLINE, MAX_IN_FLIGHT
from keyholt_protocol.refusal import error_frame
from keyholt_protocol.server_connection import ServerConnection
from keyholt_protocol.usual import PackedResult

__all__ = ["Awaits", "Session"]

SHARE: Final = 256
"""Bytes of frames that a connection may begin in one turn: four fetches, or a write. A frame that is longer
is read in the same turn as far as it is there: first its header, and then of its payload what one call
gives."""

LATER_SHARE: Final = 64
"""Likewise, of a peer that has sent more than that: a fetch, or two requests that are refused. Whoever comes
meanwhile waits for the turn of such a peer that is under way."""


class Awaits(Enum):
    """What a session needs its stream to be ready for."""

    BYTES = "bytes of the peer"
    ROOM = "room for an answer"
    NOTHING = "nothing; it reads no more, and calls of it are under way"
    OVER = "nothing any more; it is to be closed"


class Session:
    """Serves one peer over one stream, which it owns.

    Args:
        stream: the connection; closed by ``close``.
        principal: who is at the other end.
        pipeline: where requests go.
        buffer: locked memory to receive into, shared by every session of the agent.

    Attributes:
        calm: whether nobody else has come for a while, so that a turn may be longer.
        dry: false once there may be more to be read, though the stream does not become ready again for it.
        hung_up: whether the peer sends nothing more: then the end of the stream is to be read, too.
        unstarted: calls whose outcome has to be waited for; the server takes them out and starts them.
    """

    __slots__ = (
        "_backlog",
        "_buffer",
        "_connection",
        "_ending",
        "_fetching",
        "_first",
        "_frames",
        "_in_turn",
        "_incoming",
        "_later",
        "_mid_frame",
        "_outbox",
        "_pipeline",
        "_under_way",
        "calm",
        "dry",
        "hung_up",
        "principal",
        "stream",
        "unstarted",
    )

    def __init__(
        self, stream: ByteStream, principal: Principal, pipeline: Pipeline, buffer: LockedBuffer
    ) -> None:
        self.stream: Final = stream
        self.principal: Final = principal
        self.unstarted: Final[list[tuple[Call[Any], Awaitable[Reply[Any]]]]] = []
        self._pipeline = pipeline
        self._buffer = buffer.view
        self._first = buffer.view[:SHARE]
        self._later = buffer.view[:LATER_SHARE]
        self._backlog = False  # there was more than a turn allows
        self._connection = ServerConnection()
        self._outbox = Outbox(stream)
        self._incoming: Call[Any] | None = None  # its payload is on its way
        self._in_turn: deque[Call[Any]] = deque()  # to be carried out when the answers before were taken
        self._fetching = False  # a call that has its turn is under way
        self._under_way = 0  # calls whose outcome is waited for
        self._ending = False  # nothing is read any more
        self._frames = 0  # received whole
        self._mid_frame = False  # another one has begun
        self.dry = True
        self.hung_up = False
        self.calm = False

    @property
    def at_rest(self) -> bool:
        """Whether it awaits bytes, its peer owes nothing, and no call is to be started: as nearly always.

        Within a frame the peer owes the rest of it, but not as long as there is something to be read.
        """
        busy = (self._mid_frame and self.dry) or self._outbox.waiting or self._ending or self.unstarted
        return not busy and self._connection.greeted

    @property
    def awaits(self) -> Awaits:
        """What the stream has to be ready for until ``serve_ready`` can go on."""
        if self._outbox.waiting:
            return Awaits.ROOM
        if not self._ending:
            return Awaits.BYTES
        return Awaits.NOTHING if self._under_way or self._in_turn else Awaits.OVER

    @property
    def debt(self) -> object:
        """What the peer owes within ``FRAME_DEADLINE`` seconds; another value is another debt.

        It owes a greeting first: until that is accepted nothing else that it does or owes buys it more time.
        Then it owes the taking of each answer that did not fit its socket, and the rest of each frame that it
        began. Between frames a peer that has greeted owes nothing, however long.
        """
        if not self._ending and not self._connection.greeted:
            return "greeting"
        if self._outbox.waiting:
            return "answer", self._outbox.taken
        if self._mid_frame and self.dry and not self._ending:
            return "frame", self._frames
        return None

    def serve_ready(self) -> None:
        """Go on, now that the stream is ready for what the session awaited.

        Raises:
            PeerGoneError: the peer has left.
        """
        if self._outbox.waiting:
            self._send_rest()
        elif not self._ending:
            try:
                self._read()
            except RemoteProtocolError as error:
                self._end(error.answer)

    def answer(self, call: Call[Any], outcome: Outcome) -> None:
        """Send what a call in ``unstarted`` has come to.

        Raises:
            PeerGoneError: the peer has left.
        """
        self._under_way -= 1
        if call.in_turn:
            self._fetching = False
        self._send(call.id, outcome)
        self._take_turns()

    def overdue(self) -> None:
        """End the session: the peer has not paid its debt in time.

        Raises:
            PeerGoneError: the peer has left, or takes nothing, so that nothing can be said.
        """
        if self._outbox.waiting:
            raise PeerGoneError
        self._end(DeadlineExceededError(_TOO_SLOW))

    def forget_secrets(self) -> None:
        """The agent was locked: no value leaves any more, and the memory of those that wait is given back.

        Values that the peer has taken nothing of yet, and calls that wait for their turn, are answered
        ``locked``; answers without a value stay. Half a value cannot be completed: that ends the session.

        Raises:
            PeerGoneError: the peer has left.
        """
        if not self._outbox.drop_payloads(_locked):
            self._stop_reading()
            self._in_turn.clear()
            self.stream.shut()
        waiting = tuple(self._in_turn)
        self._in_turn.clear()
        for call in waiting:
            self._send(call.id, self._pipeline.turn_away(call, LockedError()))

    def close(self) -> None:
        """Give back all memory and close the stream; calls under way are the server's to cancel."""
        self._stop_reading()
        self._in_turn.clear()
        self._outbox.release()
        self.stream.close()

    # receiving

    def _read(self) -> None:
        """Receive what a turn allows, into the shared buffer or the payload under way, and act on it."""
        if not self._mid_frame:
            place = self._later if self._backlog and not self.calm else self._first
            size = self.stream.receive_nowait(place)
            if not size:
                self._backlog = False
                if size == 0:
                    self._stop_reading()
                return  # else there is nothing just now
            self._act_on(place[:size])
            self._mid_frame = self._connection.mid_frame
            if size < len(place):
                self._backlog = False
                self.dry = not self.hung_up
                return  # as nearly always: what was there is read
            self.dry, self._backlog = False, True
            if not self._mid_frame or self._connection.missing <= LATER_SHARE:
                return
        for _ in range(_PIECES):
            if not self._read_on():
                return

    def _read_on(self) -> bool:
        """Receive more of the frame under way; gives whether to go on at once."""
        connection = self._connection
        room = connection.payload_room()
        share = SHARE if self.calm else LATER_SHARE
        target = self._buffer[: max(share, connection.missing)] if room is None else room
        size = self.stream.receive_nowait(target)
        self.dry = not size or (size < len(target) and not self.hung_up)
        if not size:
            if size == 0:
                self._stop_reading()
            return False
        if room is None:
            self._act_on(target[:size])
        else:
            connection.payload_received(size)
            self._act()
        self._mid_frame = connection.mid_frame
        return (
            self._mid_frame and not self.dry and not self._outbox.waiting and connection.missing > LATER_SHARE
        )

    def _act_on(self, received: memoryview) -> None:
        """Act on what lies in the shared buffer, and leave nothing of a payload there."""
        self._connection.receive_data(received)
        secret = True  # unless it turns out that no part of a payload can have been received
        try:
            secret = self._act() or self._mid_frame
        finally:
            if secret:
                wipe(received)

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
                call, self._incoming = self._incoming, None
                self._on_whole(call)
            self._frames += 1
        return announced

    def _on_request(self, event: RequestReceived) -> None:
        if self._connection.in_flight + len(self._outbox.waiting) > MAX_IN_FLIGHT:
            call: Call[Any] | KeyholtError = self._pipeline.refuse(event, self.principal, _too_many())
        else:
            call = self._pipeline.begin(event, self.principal)
        if isinstance(call, KeyholtError):
            if event.payload_size:
                self._connection.accept_payload(None)
            self._send(event.id, call)
        elif event.payload_size and call.payload is not None:
            self._connection.accept_payload(call.payload.view)
            self._incoming = call
        else:
            self._on_whole(call)

    # calling

    def _on_whole(self, call: Call[Any]) -> None:
        """All of a request is there: its turn is now, unless its answer may be large and others wait."""
        if call.in_turn and (self._fetching or self._outbox.waiting):
            self._in_turn.append(call)
        else:
            self._carry_out(call)

    def _carry_out(self, call: Call[Any]) -> None:
        outcome = self._pipeline.carry_out(call)
        if isinstance(outcome, (Reply, KeyholtError)):
            self._send(call.id, outcome)
        else:
            self._under_way += 1
            self._fetching = self._fetching or call.in_turn
            self.unstarted.append((call, outcome))

    def _take_turns(self) -> None:
        while self._in_turn and not self._fetching and not self._outbox.waiting:
            self._carry_out(self._in_turn.popleft())

    # sending

    def _send(self, request_id: int, outcome: Outcome) -> None:
        if isinstance(outcome, KeyholtError):
            self._outbox.send(self._connection.send_error(request_id, outcome))
            return
        payload, result = outcome.payload, outcome.result
        try:
            head = self._connection.send_result(
                request_id,
                result if isinstance(result, PackedResult) else to_map(result),
                0 if payload is None else len(payload.view),
            )
        except LocalProtocolError as error:  # the result does not fit a header
            log_defect(error)
            if payload is not None:
                payload.release()
            self._outbox.send(self._connection.send_error(request_id, InternalError()))
        else:
            self._outbox.send(head, payload, request_id)

    def _send_rest(self) -> None:
        if self._outbox.flush():
            self._take_turns()

    def _end(self, error: KeyholtError) -> None:
        """Read nothing more, and say why; what was asked before is still answered."""
        self._stop_reading()
        self._outbox.send(self._connection.send_error(0, error))

    def _stop_reading(self) -> None:
        """Read nothing more: what has not come whole never will, and its memory is given back."""
        self._ending = True
        if self._incoming is not None:
            self._incoming.release()
            self._incoming = None


_PIECES: Final = 3
"""Receives of one turn beyond the first: the rest of a prefix, of its header, and of its payload."""

_TOO_SLOW: Final = f"a greeting, and each frame, must be whole within {FRAME_DEADLINE} seconds; connect again"


def _locked(request_id: int) -> bytes:
    return error_frame(request_id, LockedError())


def _too_many() -> BusyError:
    return BusyError(
        f"more than {MAX_IN_FLIGHT} requests are in flight here; read answers, then try again",
        details={"limit": MAX_IN_FLIGHT},
    )
