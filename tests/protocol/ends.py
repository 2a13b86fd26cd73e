"""What the tests of a connection's ends share: frames by hand, and what a broken rule comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgpack
import pytest

from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.errors import LocalProtocolError, RemoteProtocolError
from tests.protocol.wire import Pieces, bytewise, frame, read_events, split_at, wholly

HELLO: Final = {"id": 1, "op": "session.hello", "args": {"version": 1}}
PIECES: Final[list[Pieces]] = [wholly, bytewise, split_at([5, 8, 9, 20])]
every_split = pytest.mark.parametrize("pieces", PIECES, ids=["whole", "byte by byte", "split"])


def packed(header: object, payload: bytes = b"") -> bytes:
    """A frame with any header."""
    return frame(msgpack.packb(header), payload)


def request(request_id: object = 2, op: object = "x.y", args: object = None, **more: object) -> bytes:
    """A request's frame, right unless told otherwise."""
    return packed({"id": request_id, "op": op, "args": {} if args is None else args, **more})


def error_body(**changes: object) -> dict[str, object]:
    """What stands under ``error``, right unless told otherwise."""
    return {"code": "locked", "message": "m", "retryable": False, **changes}


def failure(request_id: object = 1, **changes: object) -> dict[str, object]:
    """The header of an error response."""
    return {"id": request_id, "ok": False, "error": error_body(**changes)}


def check_breaks(make: Callable[[], Any], stream: bytes, pieces: Pieces) -> None:
    """The bytes break the connection, which then holds nothing and stays in error."""
    connection = make()
    with pytest.raises(RemoteProtocolError) as caught:
        read_events(connection, pieces(stream))
    assert str(caught.value).isprintable()
    assert not connection.mid_frame
    assert connection.payload_room() is None
    for misuse in (
        *((lambda: connection.send_request("x.y", {}),) if make is asking_client else ()),
        connection.next_event,
        lambda: connection.receive_data(memoryview(request(9))),
        lambda: connection.accept_payload(None),
        lambda: connection.payload_received(1),
    ):
        with pytest.raises(LocalProtocolError):
            misuse()


def asking_client() -> ClientConnection:
    """A client connection with request 1 in flight."""
    client = ClientConnection()
    client.send_request("x.y", {})
    return client


def outcome(connection: Any, pieces: Iterable[bytes]) -> str:
    """The events that come out, and the error if one ends them."""
    events, end = list[Any](), ""
    try:
        read_events(connection, pieces, events)
    except RemoteProtocolError as error:
        end = repr(error)
    return "\n".join(map(repr, events)) + end
