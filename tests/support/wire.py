"""A client that speaks the wire by hand: it can send what no library would, and checks all that comes back.

- Frames are built and read here from the layout in the documentation, not by the code under test.
- Every error that is answered has to be one that its operation lists, and every answer has to be well formed:
  any test that talks to an agent through this checks that too.
- ``ReplyReader`` is without I/O; ``WireClient`` puts a blocking socket under it.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, cast

import msgpack

from keyholt_protocol.errors import DETAILS, ERRORS
from keyholt_protocol.operations import ANY_OPERATION, OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "HELLO_ARGS",
    "ClosedError",
    "Reply",
    "ReplyReader",
    "WireClient",
    "WireError",
    "frame",
    "request_frame",
    "two_passphrases",
]

HELLO_ARGS: Final = {"version": 1, "client": "raw test client"}
PATIENCE: Final = 30.0
"""Seconds for an answer: an agent under strace, on a machine that does other things as well, included."""


class ClosedError(Exception):
    """The agent closed the connection."""


class WireError(Exception):
    """An error was answered where none was expected; ``code`` is its name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response. ``code`` is empty, and so are ``message`` and ``details``, where it was a success."""

    id: int
    result: dict[str, Any]
    payload: bytes
    code: str = ""
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    def expect(self) -> Self:
        """This, if it is a success."""
        if self.code:
            raise WireError(self.code, self.message)
        return self


def frame(header: bytes, payload: bytes = b"", *, announced: int | None = None) -> bytes:
    """A frame; ``announced`` is a payload length that need not be true."""
    return (
        struct.pack(">II", len(header), len(payload) if announced is None else announced) + header + payload
    )


def request_frame(
    request_id: object, op: object, args: object, payload: bytes = b"", *, announced: int | None = None
) -> bytes:
    """The frame of a request, well formed or not."""
    header: bytes = msgpack.packb({"id": request_id, "op": op, "args": args})
    return frame(header, payload, announced=announced)


def two_passphrases(first: bytes, second: bytes) -> bytes:
    """The payload that holds both."""
    return struct.pack(">I", len(first)) + first + second


def check_error(error: dict[str, Any]) -> None:
    """An error is well formed; its details are of the kinds that are documented, and it is of one mind with
    itself about a retry.
    """
    assert error.keys() - {"details"} == {"code", "message", "retryable"}
    assert error["message"]
    assert error["code"] in ERRORS
    assert ("try again" in error["message"]) <= error["retryable"], error
    assert (error["code"] == "rate_limited") == ("retry_after" in error.get("details", {})), error
    if error["code"] == "too_large":
        assert error["details"].keys() == {"field", "limit"}, error
    if "details" in error:
        assert error["details"]
        for name, value in error["details"].items():
            kind = DETAILS[name].type
            assert type(value) is (kind if kind in {int, str} else list), error


class ReplyReader:
    """Turns received bytes into replies; knows which operation each answers."""

    def __init__(self) -> None:
        self.operations: dict[int, str] = {}
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        self._data += data

    @property
    def partial(self) -> bool:
        """Whether part of a reply is there."""
        return bool(self._data)

    def next_reply(self) -> Reply | None:
        """The next whole reply, if there is one."""
        if len(self._data) < 8:
            return None
        header_size, payload_size = struct.unpack_from(">II", self._data)
        assert 0 < header_size <= 64 * 1024
        assert payload_size <= 16 * 1024 * 1024
        end = 8 + header_size + payload_size
        if len(self._data) < end:
            return None
        header = cast("dict[str, Any]", msgpack.unpackb(self._data[8 : 8 + header_size]))
        payload = bytes(self._data[8 + header_size : end])
        del self._data[:end]
        return self._reply(header, payload)

    def _reply(self, header: dict[str, Any], payload: bytes) -> Reply:
        if header["ok"]:
            assert header.keys() == {"id", "ok", "result"}
            self.operations.pop(header["id"], None)
            return Reply(id=header["id"], result=header["result"], payload=payload)
        assert header.keys() == {"id", "ok", "error"}
        assert payload == b""
        error = header["error"]
        check_error(error)
        if header["id"] == 0 or header["id"] in self.operations:
            self._check_listed(self.operations.pop(header["id"], None), error["code"])
        return Reply(
            id=header["id"],
            result={},
            payload=b"",
            code=error["code"],
            message=error["message"],
            details=error.get("details", {}),
        )

    @staticmethod
    def _check_listed(op: str | None, code: str) -> None:
        operation = OPERATIONS.get(op or "")
        listed = {*ANY_OPERATION, *(() if operation is None else operation.errors)}
        assert code in {one.wire_name for one in listed}, f"{op} answered {code}, which it does not list"


class WireClient:
    """A blocking connection to an agent."""

    def __init__(self, address: Path | socket.socket, *, greet: bool = True) -> None:
        if isinstance(address, socket.socket):
            self.socket = address
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.socket.connect(str(address))
            except BaseException:
                self.socket.close()
                raise
        self.socket.settimeout(PATIENCE)
        self._reader = ReplyReader()
        self._stray: deque[Reply] = deque()
        self._last_id = 0
        self.greeting: dict[str, Any] = {}
        if greet:
            try:
                self.greeting = self.call("session.hello", **HELLO_ARGS).expect().result
            except BaseException:
                self.close()
                raise

    def send(self, data: bytes) -> None:
        """Send bytes as they are; if the agent takes none any more, what it said before tells why."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def told(self, request_id: int, op: str) -> None:
        """Know of a request that was sent by hand, so that its answer can be held against its operation."""
        self._reader.operations[request_id] = op

    def request(self, op: str, args: Mapping[str, object], payload: bytes = b"") -> int:
        """Send a request; its id."""
        self._last_id += 1
        self.told(self._last_id, op)
        self.send(request_frame(self._last_id, op, args, payload))
        return self._last_id

    def receive(self) -> Reply:
        """The next reply.

        Raises:
            ClosedError: the agent closed the connection instead.
        """
        while (reply := self._reader.next_reply()) is None:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                assert not self._reader.partial, "closed in the middle of a reply"
                raise ClosedError
            self._reader.feed(data)
        return reply

    def reply_to(self, request_id: int) -> Reply:
        """The reply to one request; those to others are kept."""
        for reply in self._stray:
            if reply.id == request_id:
                self._stray.remove(reply)
                return reply
        while (reply := self.receive()).id != request_id:
            if reply.id == 0:
                raise WireError(reply.code, reply.message)
            self._stray.append(reply)
        return reply

    def call(self, op: str, payload: bytes = b"", /, **args: object) -> Reply:
        """Send a request and wait for its reply."""
        return self.reply_to(self.request(op, args, payload))

    def get(self, path: str, /, **args: object) -> bytes:
        """The value of a secret."""
        return self.call("secret.get", path=path, **args).expect().payload

    def put(self, path: str, value: bytes, /, **args: object) -> int:
        """Write a secret; its version."""
        return int(self.call("secret.put", value, path=path, **args).expect().result["version"])

    def status(self) -> dict[str, Any]:
        return self.call("agent.status").expect().result

    def farewell(self) -> list[Reply]:
        """Every reply until the agent closes the connection, which it has to."""
        replies: list[Reply] = []
        while True:
            try:
                replies.append(self.receive())
            except ClosedError:
                return replies

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
