"""The agent's side of a connection: requests in, results and errors out.

- A request that is not as it must be, but can be told from others by its id, is an event like any other, with
  the ``defect`` that it is to be refused for.
- After the peer's breach, requests that came before it may still be answered.
- A reply that cannot be sent can still be answered with an error: own misuse changes nothing.

States, and what moves them:

========== ================================ ==========
from       on                               to
========== ================================ ==========
``HELLO``  request session.hello            ``OPEN``
``HELLO``  any other request                ``FAILED``
``OPEN``   any request; hello has a defect  ``OPEN``
``OPEN``   the hello is refused             ``HELLO``
any        a broken rule, or an error of it ``FAILED``
========== ================================ ==========
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from keyholt_protocol.codec import as_integer, pack_header, unpack_header
from keyholt_protocol.connection import Connection, State
from keyholt_protocol.errors import (
    InvalidRequestError,
    KeyholtError,
    LocalProtocolError,
    TooLargeError,
    UnsupportedError,
)
from keyholt_protocol.events import PayloadReceived, RequestReceived
from keyholt_protocol.framing import frame_head
from keyholt_protocol.limits import (
    HELLO_OPERATION,
    MAX_REQUEST_HEADER,
    MAX_REQUEST_ID,
    MAX_RESPONSE_HEADER,
    PROTOCOL_VERSION,
)
from keyholt_protocol.refusal import error_frame
from keyholt_protocol.salvage import check_extent, readable_id
from keyholt_protocol.usual import USUAL_FETCH, PackedResult, read_usual_fetch, result_header

__all__ = ["ServerConnection"]

_REQUEST_KEYS: Final = frozenset({"id", "op", "args"})
_WRONG_KEYS: Final = "a request's header has exactly the keys id, op and args"
_WRONG_TYPES: Final = "in a request's header, op is text and args is a map"
_GREETED: Final = f"{HELLO_OPERATION} is the first request of a connection, and is not sent again"


class ServerConnection(Connection):
    """The agent's side: requests in, results and errors out."""

    __slots__ = ("_hello_id",)

    def __init__(self) -> None:
        super().__init__(MAX_REQUEST_HEADER, State.HELLO)
        self._hello_id = 0  # the request session.hello that opened the connection, until it is answered

    @property
    def greeted(self) -> bool:
        """Whether ``session.hello`` has come and was not refused, and no rule was broken since."""
        return self._state is State.OPEN

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
        if self._state is State.HELLO or request.op == HELLO_OPERATION:
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
        head = error_frame(request_id, error)
        if not request_id:
            self._fail()
            return head
        if request_id == self._hello_id and self._state is State.OPEN:
            self._state = State.HELLO
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
        raw = bytes(data)
        if (fetch := read_usual_fetch(raw)) is not None:
            number, message = fetch
            return RequestReceived(number, USUAL_FETCH, {"path": message.path}, payload_size, None, message)
        defect: KeyholtError | None = None
        try:
            check_extent(raw)
            header = unpack_header(raw)
        except (InvalidRequestError, TooLargeError) as error:
            header, request_id, defect = {}, readable_id(raw), error
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
        if self._state is State.OPEN:
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
        self._state = State.OPEN
        self._hello_id = request.id


def _malformed(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, details={"field": "header"})
