"""The sans-I/O connection: bytes in, events out, for both sides of a stream.

- No clock, socket, log or randomness inside. Whoever does the I/O lends received bytes with ``receive_data``
  and reads ``next_event`` until it gives ``None``; what ``send_...`` returns goes out on the stream, whole
  and in the order of the calls, followed by the payload where one was announced.
- An event that announces a payload stops the reading until ``accept_payload`` says where the payload goes.
- A request that is not as it must be, but can be told from others by its id, is an event like any other, with
  the ``defect`` that it is to be refused for.
- The peer's breach is ``RemoteProtocolError``: the connection reads nothing more and holds nothing any more.
  Requests that came before it may still be answered.
- Own misuse is ``LocalProtocolError``: it changes nothing, so that a reply that cannot be sent can still be
  answered with an error.
- Streams are reserved: a response header with an ``event`` is refused until an operation has them.

Server states, and what moves them:

========== ================================ ==========
from       on                               to
========== ================================ ==========
``HELLO``  request session.hello            ``OPEN``
``HELLO``  any other request                ``FAILED``
``OPEN``   any request; hello has a defect  ``OPEN``
``OPEN``   the hello is refused             ``HELLO``
any        a broken rule, or an error of it ``FAILED``
========== ================================ ==========

A client is ``OPEN`` from the start, and ``FAILED`` after a broken rule. What has failed stays so.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, cast

from keyholt_protocol.codec import as_integer, pack_header, unpack_header
from keyholt_protocol.errors import (
    InvalidRequestError,
    KeyholtError,
    LocalProtocolError,
    RemoteProtocolError,
    TooLargeError,
    UnsupportedError,
    error_from_wire,
)
from keyholt_protocol.events import PayloadReceived, RequestReceived, ResponseReceived
from keyholt_protocol.framing import FrameDecoder, frame_head
from keyholt_protocol.limits import (
    HELLO_OPERATION,
    MAX_IN_FLIGHT,
    MAX_REQUEST_HEADER,
    MAX_REQUEST_ID,
    MAX_RESPONSE_HEADER,
    PROTOCOL_VERSION,
)
from keyholt_protocol.salvage import readable_id
from keyholt_protocol.usual import (
    USUAL_FETCH,
    PackedResult,
    fetch_header,
    read_usual_answer,
    read_usual_fetch,
    result_header,
)

__all__ = ["ClientConnection", "PayloadReceived", "RequestReceived", "ResponseReceived", "ServerConnection"]


class _State(IntEnum):
    HELLO = 0
    OPEN = 1
    FAILED = 2


_OVER: Final = "no request can be sent after a broken rule"
_REQUEST_KEYS: Final = frozenset({"id", "op", "args"})
_WRONG_KEYS: Final = "a request's header has exactly the keys id, op and args"
_WRONG_TYPES: Final = "in a request's header, op is text and args is a map"
_GREETED: Final = f"{HELLO_OPERATION} is the first request of a connection, and is not sent again"
_RESULT_KEYS: Final = frozenset({"id", "ok", "result"})
_ERROR_KEYS: Final = frozenset({"id", "ok", "error"})
_ERROR_BODY_KEYS: Final = frozenset({"code", "message", "retryable", "details"})

_MAX_MESSAGE: Final = 2000
"""Characters of an error's message that are sent: in any encoding less than a header may hold."""


class _Connection:
    """What both sides share: frames, and the payload that belongs to the event before it."""

    __slots__ = ("_decoder", "_payload_id", "_state")

    def __init__(self, max_header: int, state: _State) -> None:
        self._decoder = FrameDecoder(max_header)
        self._payload_id: int | None = None
        self._state = state

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
        self._state = _State.FAILED
        self._decoder.fail()


class ServerConnection(_Connection):
    """The agent's side: requests in, results and errors out."""

    __slots__ = ("_hello_id", "_open")

    def __init__(self) -> None:
        super().__init__(MAX_REQUEST_HEADER, _State.HELLO)
        self._open: set[int] = set()
        self._hello_id = 0  # the request session.hello that opened the connection, until it is answered

    @property
    def greeted(self) -> bool:
        """Whether ``session.hello`` has come and was not refused, and no rule was broken since."""
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
        frame = self._next_frame()
        if frame is None:
            return None
        request = self._request(*frame)
        if request.id in self._open:
            raise self._broken(f"the request id {request.id} is already in flight")
        if self._state is _State.HELLO or request.op == HELLO_OPERATION:
            self._greet(request)
        self._open.add(request.id)
        if request.payload_size:
            self._payload_id = request.id
        return request

    def send_result(
        self, request_id: int, result: Mapping[str, object] | PackedResult, payload_size: int = 0
    ) -> bytes:
        """The frame's head of a result; ``payload_size`` bytes of payload must follow it.

        Raises:
            LocalProtocolError: the request is not open, or the result is over a limit: ``send_error``.
        """
        if isinstance(result, PackedResult):
            header = result_header(request_id, result)
        else:
            header = pack_header({"id": request_id, "ok": True, "result": result})
        head = frame_head(header, payload_size, MAX_RESPONSE_HEADER)
        self._answered(request_id)
        return head

    def send_error(self, request_id: int, error: KeyholtError) -> bytes:
        """The frame of an error; id 0 speaks of the connection, which reads nothing after it.

        Raises:
            LocalProtocolError: the request is not open.
        """
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
        if not request_id:
            self._fail()
            return head
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

    def _request(self, data: memoryview | bytearray, payload_size: int) -> RequestReceived:
        """The request that a header is, with its defect if it has one.

        Raises:
            RemoteProtocolError: it has no id that its refusal could be told by.
        """
        if (fetch := read_usual_fetch(bytes(data))) is not None:
            number, message = fetch
            return RequestReceived(number, USUAL_FETCH, {"path": message.path}, payload_size, None, message)
        defect: KeyholtError | None = None
        try:
            header = unpack_header(data)
        except (InvalidRequestError, TooLargeError) as error:
            header, request_id, defect = {}, readable_id(data), error
        else:
            request_id = as_integer(header.get("id"))
            if header.keys() != _REQUEST_KEYS:
                defect = _malformed(_WRONG_KEYS)
        if request_id is None or not 0 < request_id <= MAX_REQUEST_ID:
            raise self._broken(f"a request has an id from 1 to {MAX_REQUEST_ID} that can be read")
        op, args = header.get("op"), header.get("args")
        if type(op) is not str or type(args) is not dict:
            op, args, defect = op if type(op) is str else "", {}, defect or _malformed(_WRONG_TYPES)
        fields = cast("dict[str, object]", args)
        return RequestReceived(request_id, op, fields, payload_size, defect)

    def _greet(self, request: RequestReceived) -> None:
        """Hold a request against the rule that ``session.hello`` comes first, and once."""
        if self._state is _State.OPEN:
            request.defect = _malformed(_GREETED)
            return
        if request.op != HELLO_OPERATION:
            raise self._broken(f"{HELLO_OPERATION} must be the first request of a connection")
        # Before anything else in it: what a greeting of another version holds is that version's business.
        version = as_integer(request.args.get("version"))
        if version is not None and version != PROTOCOL_VERSION:
            request.defect = UnsupportedError(
                f"this agent speaks protocol version {PROTOCOL_VERSION}, not {version}; "
                "use a client of the same release",
                details={"versions": [PROTOCOL_VERSION]},
            )
        self._state = _State.OPEN
        self._hello_id = request.id


def _malformed(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, details={"field": "header"})


class ClientConnection(_Connection):
    """The client's side: requests out, responses in."""

    __slots__ = ("_last_id", "_open")

    def __init__(self) -> None:
        super().__init__(MAX_RESPONSE_HEADER, _State.OPEN)
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
        """The id of a new request and its frame's head; ``payload_size`` bytes of payload must follow it.

        Raises:
            LocalProtocolError: the request is over a limit, or the connection has failed.
        """
        if self._state is _State.FAILED:
            raise LocalProtocolError(_OVER)
        request_id = self._last_id + 1
        header = pack_header({"id": request_id, "op": op, "args": args})
        head = frame_head(header, payload_size, MAX_REQUEST_HEADER)
        self._last_id = request_id
        self._open.add(request_id)
        return request_id, head

    def send_fetch(self, path: str) -> tuple[int, bytes]:
        """The same for a fetch of a secret's newest version, which is what is asked for most.

        Raises:
            LocalProtocolError: the connection has failed.
        """
        if self._state is _State.FAILED:
            raise LocalProtocolError(_OVER)
        request_id = self._last_id = self._last_id + 1
        self._open.add(request_id)
        return request_id, frame_head(fetch_header(request_id, path), 0, MAX_REQUEST_HEADER)

    def take_payload(self, target: memoryview | None) -> bool:
        """Say where the payload announced last goes, like ``accept_payload``; true if all of it came with its
        header, so that no event follows.
        """
        self._decoder.accept_payload(target)
        if not self._decoder.payload_done():
            return False
        self._payload_id = None
        return True

    def next_event(self) -> ResponseReceived | PayloadReceived | None:
        """The next event, or ``None`` when more bytes are needed.

        Raises:
            RemoteProtocolError: the agent broke a rule; close the connection.
        """
        if self._payload_id is not None:
            return self._next_payload()
        frame = self._next_frame()
        if frame is None:
            return None
        data, payload_size = frame
        usual = read_usual_answer(bytes(data))
        if usual is not None and usual[0] in self._open:
            self._open.discard(usual[0])
            response = ResponseReceived(id=usual[0], result=usual[1], error=None, payload_size=payload_size)
        else:
            response = self._decoded(data, payload_size)
        if payload_size:
            self._payload_id = response.id
        return response

    def _decoded(self, data: memoryview | bytearray, payload_size: int) -> ResponseReceived:
        try:
            header = unpack_header(data)
        except (InvalidRequestError, TooLargeError) as error:
            raise self._broken(str(error)) from None
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
        failure = None if ok else self._error(fields, payload_size)
        self._open.discard(request_id)
        return ResponseReceived(
            id=request_id, result=fields if ok else None, error=failure, payload_size=payload_size
        )

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
