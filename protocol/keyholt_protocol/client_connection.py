"""The client's side of a connection: requests out, responses in.

- A client is ``OPEN`` from the start, and ``FAILED`` after the agent broke a rule.
- Streams are reserved: a response header with an ``event`` is refused until an operation has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from keyholt_protocol.codec import pack_header, unpack_header
from keyholt_protocol.connection import Connection, State
from keyholt_protocol.errors import (
    InvalidRequestError,
    KeyholtError,
    LocalProtocolError,
    TooLargeError,
    error_from_wire,
)
from keyholt_protocol.events import PayloadReceived, ResponseReceived
from keyholt_protocol.framing import frame_head
from keyholt_protocol.limits import MAX_REQUEST_HEADER, MAX_RESPONSE_HEADER
from keyholt_protocol.usual import fetch_header, read_usual_answer

__all__ = ["ClientConnection"]

_OVER: Final = "no request can be sent after a broken rule"
_RESULT_KEYS: Final = frozenset({"id", "ok", "result"})
_ERROR_KEYS: Final = frozenset({"id", "ok", "error"})
_ERROR_BODY_KEYS: Final = frozenset({"code", "message", "retryable", "details"})


class ClientConnection(Connection):
    """The client's side: requests out, responses in."""

    __slots__ = ("_last_id", "_last_word")

    def __init__(self) -> None:
        super().__init__(MAX_RESPONSE_HEADER, State.OPEN)
        self._last_id = 0
        self._last_word = False  # the agent has said its error for the whole connection

    def send_request(self, op: str, args: Mapping[str, object], payload_size: int = 0) -> tuple[int, bytes]:
        """The id of a new request and its frame's head; ``payload_size`` bytes of payload must follow it.

        Raises:
            LocalProtocolError: the request is over a limit, or the connection has failed.
        """
        if self._state is State.FAILED:
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
        if self._state is State.FAILED:
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
        if request_id not in self._open:
            if ok or request_id != 0:
                raise self._broken(f"a response came for {request_id}, which is not in flight")
            if self._last_word:  # else one that sends nothing but these would be read for ever
                raise self._broken("an agent says one last word, and this was a second")
            self._last_word = True
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
