"""The sans-I/O connection: bytes in, events out, for both sides of a stream.

- No clock, socket, log or randomness inside. Whoever does the I/O lends received bytes with ``receive_data``
  and reads ``next_event`` until it gives ``None``; what ``send_...`` returns goes out on the stream, whole
  and in the order of the calls, followed by the payload where one was announced.
- An event that announces a payload stops the reading until ``accept_payload`` says where the payload goes.
- The peer's breach is ``RemoteProtocolError``: the connection reads nothing more and holds nothing any more.
  Own misuse is ``LocalProtocolError``: it changes nothing, so that a reply that cannot be sent can still be
  answered with an error.
- Streams are reserved: a response header with an ``event`` is refused until an operation has them.

Server states, and what moves them:

========== ======================== ==========
from       on                       to
========== ======================== ==========
``HELLO``  request session.hello    ``OPEN``
``HELLO``  any other request        ``FAILED``
``OPEN``   request session.hello    ``FAILED``
``OPEN``   any other request        ``OPEN``
``OPEN``   session.hello is refused ``HELLO``
any        a broken rule            ``FAILED``
========== ======================== ==========
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, cast

from keyholt_protocol.codec import pack_header, unpack_header
from keyholt_protocol.errors import (
    InvalidRequestError,
    KeyholtError,
    LocalProtocolError,
    RemoteProtocolError,
    error_from_wire,
)
from keyholt_protocol.framing import FrameDecoder, frame_head
from keyholt_protocol.limits import (
    HELLO_OPERATION,
    MAX_IN_FLIGHT,
    MAX_REQUEST_HEADER,
    MAX_REQUEST_ID,
    MAX_RESPONSE_HEADER,
)

__all__ = ["ClientConnection", "PayloadReceived", "RequestReceived", "ResponseReceived", "ServerConnection"]


@dataclass(slots=True, kw_only=True)
class RequestReceived:
    """A request's header came. ``args`` is decoded msgpack, not yet held against the operation."""

    id: int
    op: str
    args: dict[str, object]
    payload_size: int


@dataclass(slots=True, kw_only=True)
class ResponseReceived:
    """A response's header came. ``result`` is ``None`` exactly when ``error`` is set.

    ``id`` 0 is no request's answer: the agent says why it is about to close the connection.
    """

    id: int
    result: dict[str, object] | None
    error: KeyholtError | None
    payload_size: int


@dataclass(slots=True, kw_only=True)
class PayloadReceived:
    """The payload announced last is whole, in the memory that ``accept_payload`` named."""

    id: int


class _State(IntEnum):
    HELLO = 0
    OPEN = 1
    FAILED = 2


_NEXT: Final = {
    (_State.HELLO, True): _State.OPEN,
    (_State.HELLO, False): _State.FAILED,
    (_State.OPEN, True): _State.FAILED,
    (_State.OPEN, False): _State.OPEN,
}
"""Where a request moves the server, by the state and whether the request is ``session.hello``."""

_REQUEST_KEYS: Final = frozenset({"id", "op", "args"})
_RESULT_KEYS: Final = frozenset({"id", "ok", "result"})
_ERROR_KEYS: Final = frozenset({"id", "ok", "error"})
_ERROR_BODY_KEYS: Final = frozenset({"code", "message", "retryable", "details"})

_MAX_MESSAGE: Final = 2000
"""Characters of an error's message that are sent: in any encoding less than a header may hold."""


class _Connection:
    """What both sides share: frames, and the payload that belongs to the event before it."""

    __slots__ = ("_decoder", "_payload_id")

    def __init__(self, max_header: int) -> None:
        self._decoder = FrameDecoder(max_header)
        self._payload_id: int | None = None

    @property
    def mid_frame(self) -> bool:
        """Whether the peer owes the rest of a frame."""
        return self._decoder.mid_frame

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

    def _next_header(self) -> tuple[dict[str, object], int] | None:
        frame = self._decoder.next_header()
        if frame is None:
            return None
        try:
            return unpack_header(frame[0]), frame[1]
        except InvalidRequestError as error:
            raise self._broken(str(error)) from None

    def _next_payload(self) -> PayloadReceived | None:
        if self._payload_id is None or not self._decoder.payload_done():
            return None
        event = PayloadReceived(id=self._payload_id)
        self._payload_id = None
        return event

    def _broken(self, message: str) -> RemoteProtocolError:
        self._decoder.fail()
        return RemoteProtocolError(message)


class ServerConnection(_Connection):
    """The agent's side: requests in, results and errors out."""

    __slots__ = ("_hello_id", "_open", "_state")

    def __init__(self) -> None:
        super().__init__(MAX_REQUEST_HEADER)
        self._open: set[int] = set()
        self._hello_id = 0  # the request session.hello, until it is answered
        self._state = _State.HELLO

    @property
    def greeted(self) -> bool:
        """Whether ``session.hello`` has come and was not refused."""
        return self._state is _State.OPEN

    @property
    def in_flight(self) -> int:
        """Requests received and not yet answered."""
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether a further request is to be answered with ``busy``."""
        return len(self._open) >= MAX_IN_FLIGHT

    def next_event(self) -> RequestReceived | PayloadReceived | None:
        """The next event, or ``None`` when more bytes are needed.

        Raises:
            RemoteProtocolError: the peer broke a rule; answer with ``send_error(0, ...)`` and close.
        """
        if self._payload_id is not None:
            return self._next_payload()
        frame = self._next_header()
        if frame is None:
            return None
        header, payload_size = frame
        request = self._request(header, payload_size)
        self._open.add(request.id)
        if payload_size:
            self._payload_id = request.id
        return request

    def send_result(self, request_id: int, result: Mapping[str, object], payload_size: int = 0) -> bytes:
        """The frame's head of a result; ``payload_size`` bytes of payload must follow it.

        Raises:
            LocalProtocolError: the request is not open, or the result is over a limit: ``send_error``.
        """
        header = pack_header({"id": request_id, "ok": True, "result": result})
        head = frame_head(header, payload_size, MAX_RESPONSE_HEADER)
        self._answered(request_id)
        return head

    def send_error(self, request_id: int, error: KeyholtError) -> bytes:
        """The frame of an error; id 0 speaks of the connection, which is closed after it."""
        # A message may name a path of the agent's file system, which need not be text.
        message = str(error)[:_MAX_MESSAGE].encode(errors="backslashreplace").decode()
        body: dict[str, object] = {
            "code": error.code.wire_name,
            "message": message,
            "retryable": error.retryable,
        }
        if error.details:
            body["details"] = error.details
        head = frame_head(pack_header({"id": request_id, "ok": False, "error": body}), 0, MAX_RESPONSE_HEADER)
        if request_id:
            if request_id == self._hello_id and self._state is _State.OPEN:
                self._state = _State.HELLO
            self._answered(request_id)
        return head

    def _answered(self, request_id: int) -> None:
        try:
            self._open.remove(request_id)
        except KeyError:
            raise LocalProtocolError(f"request {request_id} is not open") from None
        if request_id == self._hello_id:
            self._hello_id = 0

    def _request(self, header: dict[str, object], payload_size: int) -> RequestReceived:
        if header.keys() != _REQUEST_KEYS:
            raise self._broken("a request header has exactly the keys id, op and args")
        request_id, op, args = header["id"], header["op"], header["args"]
        if type(request_id) is not int or not 0 < request_id <= MAX_REQUEST_ID:
            raise self._broken(f"a request's id is an integer from 1 to {MAX_REQUEST_ID}")
        if type(op) is not str or type(args) is not dict:
            raise self._broken("in a request, op is text and args a map")
        if request_id in self._open:
            raise self._broken(f"the request id {request_id} is already in flight")
        if self._state is not _State.OPEN or op == HELLO_OPERATION:
            self._greet(request_id, op)
        fields = cast("dict[str, object]", args)
        return RequestReceived(id=request_id, op=op, args=fields, payload_size=payload_size)

    def _greet(self, request_id: int, op: str) -> None:
        before, self._state = self._state, _NEXT[self._state, op == HELLO_OPERATION]
        if self._state is _State.FAILED:
            expected = "the first request" if before is _State.HELLO else "no later request"
            raise self._broken(f"session.hello must be {expected} of a connection")
        self._hello_id = request_id


class ClientConnection(_Connection):
    """The client's side: requests out, responses in."""

    __slots__ = ("_last_id", "_open")

    def __init__(self) -> None:
        super().__init__(MAX_RESPONSE_HEADER)
        self._open: set[int] = set()
        self._last_id = 0

    @property
    def in_flight(self) -> int:
        """Requests sent and not yet answered."""
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether the agent would refuse a further request before one is answered."""
        return len(self._open) >= MAX_IN_FLIGHT

    def send_request(self, op: str, args: Mapping[str, object], payload_size: int = 0) -> tuple[int, bytes]:
        """The id of a new request and its frame's head; ``payload_size`` bytes of payload must follow it."""
        request_id = self._last_id + 1
        header = pack_header({"id": request_id, "op": op, "args": args})
        head = frame_head(header, payload_size, MAX_REQUEST_HEADER)
        self._last_id = request_id
        self._open.add(request_id)
        return request_id, head

    def next_event(self) -> ResponseReceived | PayloadReceived | None:
        """The next event, or ``None`` when more bytes are needed.

        Raises:
            RemoteProtocolError: the agent broke a rule; close the connection.
        """
        if self._payload_id is not None:
            return self._next_payload()
        frame = self._next_header()
        if frame is None:
            return None
        header, payload_size = frame
        response = self._response(header, payload_size)
        if payload_size:
            self._payload_id = response.id
        return response

    def _response(self, header: dict[str, object], payload_size: int) -> ResponseReceived:
        request_id, ok = header.get("id"), header.get("ok")
        if type(request_id) is not int or type(ok) is not bool:
            raise self._broken("a response has an integer id and a boolean ok; streams are reserved")
        if header.keys() != (_RESULT_KEYS if ok else _ERROR_KEYS):
            raise self._broken("a response header has exactly the keys id, ok, and result or error")
        body = header["result" if ok else "error"]
        if type(body) is not dict:
            raise self._broken("a response's result or error is a map")
        if request_id not in self._open and (ok or request_id != 0):
            raise self._broken(f"a response came for {request_id}, which is not in flight")
        fields = cast("dict[str, object]", body)
        result, error = (fields, None) if ok else (None, self._error(fields, payload_size))
        self._open.discard(request_id)
        return ResponseReceived(id=request_id, result=result, error=error, payload_size=payload_size)

    def _error(self, body: dict[str, object], payload_size: int) -> KeyholtError:
        if payload_size:
            raise self._broken("an error has no payload")
        if not _ERROR_BODY_KEYS >= body.keys() >= _ERROR_BODY_KEYS - {"details"}:
            raise self._broken("an error has the keys code, message, retryable, and details if there are any")
        code, message, retryable = body["code"], body["message"], body["retryable"]
        if type(code) is not str or type(message) is not str or type(retryable) is not bool:
            raise self._broken("an error's code and message are text, and retryable is true or false")
        details = body.get("details", {})
        if type(details) is not dict:
            raise self._broken("an error's details are a map")
        return error_from_wire(code, message, cast("dict[str, object]", details), retryable=retryable)
