"""What both sides of a sans-I/O connection share: bytes in, events out, and the payload between two events.

The agent's side is ``server_connection``, the client's ``client_connection``. Of both holds:

- No clock, socket, log or randomness inside. Whoever does the I/O lends received bytes with ``receive_data``
  and reads ``next_event`` until it gives ``None``; what ``send_...`` returns goes out on the stream, whole
  and in the order of the calls, followed by the payload where one was announced.
- An event that announces a payload stops the reading until ``accept_payload`` says where the payload goes.
- The peer's breach is ``RemoteProtocolError``: the connection reads nothing more and holds nothing any more.
  It is ``FAILED``, and stays so.
- Own misuse is ``LocalProtocolError``: it changes nothing.
"""

from __future__ import annotations

from enum import IntEnum

from keyholt_protocol.errors import RemoteProtocolError
from keyholt_protocol.events import PayloadReceived
from keyholt_protocol.framing import FrameDecoder
from keyholt_protocol.limits import MAX_IN_FLIGHT

__all__ = ["Connection", "State"]


class State(IntEnum):
    """How far a connection has come; a client's is ``OPEN`` from the start."""

    HELLO = 0
    OPEN = 1
    FAILED = 2


class Connection:
    """Frames, and the payload that belongs to the event before it. A side adds what its frames mean."""

    __slots__ = ("_decoder", "_open", "_payload_id", "_state")

    def __init__(self, max_header: int, state: State) -> None:
        self._decoder = FrameDecoder(max_header)
        self._open: set[int] = set()  # the ids of requests in flight
        self._payload_id: int | None = None
        self._state = state

    @property
    def in_flight(self) -> int:
        """Requests that have come or gone out and are not answered yet."""
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether a further request would be one too many, which the agent answers with ``busy``."""
        return len(self._open) >= MAX_IN_FLIGHT

    @property
    def mid_frame(self) -> bool:
        """Whether the peer owes the rest of a frame."""
        return self._decoder.mid_frame

    @property
    def missing(self) -> int:
        """Bytes that it owes, as far as that is known by now."""
        return self._decoder.missing

    def receive_data(self, data: memoryview) -> None:
        """Lend received bytes; they must not change until ``next_event`` gives ``None``."""
        self._decoder.feed(data)

    def accept_payload(self, target: memoryview | None) -> None:
        """Say where the payload announced last goes; ``None`` discards it."""
        self._decoder.accept_payload(target)

    def payload_room(self) -> memoryview | None:
        """Where the rest of an accepted payload may be received directly; ``None`` when it is discarded."""
        return self._decoder.payload_room()

    def payload_received(self, size: int) -> None:
        """Say that ``size`` bytes were received straight into ``payload_room``."""
        self._decoder.payload_received(size)

    def _next_frame(self) -> tuple[memoryview | bytearray, int] | None:
        """The next frame's header and its payload's size."""
        try:
            return self._decoder.next_header()
        except RemoteProtocolError:
            self._fail()
            raise

    def _next_payload(self) -> PayloadReceived | None:
        if self._payload_id is None or not self._decoder.payload_done():
            return None
        event = PayloadReceived(id=self._payload_id)
        self._payload_id = None
        return event

    def _broken(self, message: str) -> RemoteProtocolError:
        self._fail()
        return RemoteProtocolError(message)

    def _fail(self) -> None:
        self._state = State.FAILED
        self._decoder.fail()
