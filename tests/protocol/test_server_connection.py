"""The agent's end against hostile and defective requests, whole and byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.errors import (
    ErrorCode,
    InternalError,
    InvalidRequestError,
    LocalProtocolError,
    RemoteProtocolError,
    TooLargeError,
)
from keyholt_protocol.events import PayloadReceived, RequestReceived, ResponseReceived
from keyholt_protocol.framing import FrameDecoder
from keyholt_protocol.limits import (
    MAX_PAYLOAD,
    MAX_REQUEST_HEADER,
    MAX_REQUEST_ID,
    MAX_REQUEST_VALUES,
    MAX_RESPONSE_HEADER,
)
from keyholt_protocol.server_connection import ServerConnection
from tests.protocol.ends import check_breaks, every_split, packed, request
from tests.protocol.hostile_headers import HOSTILE
from tests.protocol.wire import Pieces, frame, greeted_server, read_events, wholly

BROKEN_REQUESTS: Final = {
    "id 0": request(0),
    "id negative": request(-1),
    "id negative in one byte": frame(b"\x83\xa2id\xff\xa2op\xa1x\xa4args\x80"),
    "id too large": request(MAX_REQUEST_ID + 1),
    "id true": request(True),
    "id float": request(2.5),
    "id float too large": request(2.0**53),
    "id infinite": request(float("inf")),
    "id text": request("2"),
    "id nothing": request(None),
    "no id": packed({"op": "x.y", "args": {}}),
    "other keys": packed({"ok": True, "result": {}}),
    "empty map": packed({}),
    "id below": packed({"args": {"id": 2}}),
    "id behind what is no msgpack": frame(b"\x83\xa2op\xc1\xa2id\x02\xa4args\x80"),
    "id too far behind": frame(b"\x82\xa1a" + b"\x91" * 255 + b"\xc1\xa2id\x02"),
    "id cut short": frame(b"\x83\xa2id\xcd\x02"),
    "id of a map that is another's entry": frame(b"\x91\x81\xa2id\x02"),
    "id twice, the first one wrong": frame(b"\x82\xa2id\x00\xa2id\x02"),
    "a header too large": struct.pack(">II", MAX_REQUEST_HEADER + 1, 0) + bytes(50),
    "a payload too large": struct.pack(">II", 16, MAX_PAYLOAD + 1) + bytes(50),
    "no header": bytes(8),
    **{
        f"header: {name}": frame(data)
        for name, data in HOSTILE.items()
        if 0 < len(data) <= MAX_REQUEST_HEADER
    },
}


DEFECTIVE_REQUESTS: Final = {
    "op number": request(2, 1),
    "op nothing": request(2, None),
    "op bytes": request(2, b"x.y"),
    "args array": request(2, "x.y", []),
    "args text": request(2, "x.y", "a"),
    "no args": packed({"id": 2, "op": "x.y"}),
    "no op": packed({"id": 2, "args": {}}),
    "no other key": packed({"id": 2}),
    "a key more": request(event="x"),
    "other keys beside it": packed({"id": 2, "ok": True, "result": {}}),
    "hello twice": request(2, "session.hello", {"version": 1}),
    "id twice": frame(b"\x82\xa2id\x02\xa2id\x03"),
    "cut short behind it": frame(b"\x83\xa2id\x02\xa2op"),
    "no msgpack behind it": frame(b"\x82\xa2id\x02\xa2op\xc1"),
    "bytes after the map": frame(b"\x81\xa2id\x02\x00"),
    "deep before it, as far as is looked": frame(b"\x82\xa1a" + b"\x91" * 14 + b"\xc0\xa2id\x02"),
    **{
        f"header: {name}, before the id": frame(b"\x82\xa1x" + data[:1] + data[1:] + b"\xa2id\x02")
        for name, data in HOSTILE.items()
        if name in {"bytes", "ext", "timestamp", "key number", "duplicate key", "surrogate", "key bytes"}
    },
    **{
        f"header: {name}, after the id": frame(b"\x82\xa2id\x02\xa1x" + data)
        for name, data in HOSTILE.items()
        if len(data) < MAX_REQUEST_HEADER - 10
    },
}


@every_split
@pytest.mark.parametrize("name", BROKEN_REQUESTS)
def test_broken_request_ends_the_connection(name: str, pieces: Pieces) -> None:
    """A request that breaks a rule ends the connection for good, and the server can still say why."""
    check_breaks(greeted_server, BROKEN_REQUESTS[name], pieces)
    server = greeted_server()
    with pytest.raises(RemoteProtocolError) as caught:
        read_events(server, pieces(BROKEN_REQUESTS[name] + request(7)))
    too_large = name.endswith("too large") and not name.startswith("id")
    assert (caught.value.answer.code is ErrorCode.TOO_LARGE) == too_large
    assert read_events(ClientConnection(), pieces(server.send_error(0, InternalError())))


def check_refusable(make: Callable[[], Any], stream: bytes, pieces: Pieces, request_id: int = 2) -> None:
    """The bytes are a request with a defect, whose payload is passed over, and the next one is good."""
    server = make()
    events = read_events(server, pieces(stream + request(7)))
    (bad, _), (good, _) = (event for event in events if isinstance(event[0], RequestReceived))
    assert isinstance(bad, RequestReceived)
    assert isinstance(good, RequestReceived)
    assert (bad.id, good.id, good.defect) == (request_id, 7, None)
    assert isinstance(bad.defect, (InvalidRequestError, TooLargeError))
    assert str(bad.defect).isprintable()
    assert len(str(bad.defect)) < 100
    ((told, _),) = read_events(answering(request_id), pieces(server.send_error(bad.id, bad.defect)))
    assert isinstance(told, ResponseReceived)
    assert type(told.error) is type(bad.defect)
    assert server.in_flight == 1


def answering(request_id: int) -> ClientConnection:
    """A client connection in which a request with this id, 1 or 2, awaits its answer."""
    client = ClientConnection()
    for _ in range(request_id):
        client.send_request("x.y", {})
    return client


@every_split
@pytest.mark.parametrize("name", DEFECTIVE_REQUESTS)
def test_defective_request_is_told_by_its_id(name: str, pieces: Pieces) -> None:
    """Whatever else is wrong with a header: while its id can be read, the request alone is refused."""
    check_refusable(greeted_server, DEFECTIVE_REQUESTS[name], pieces)


def test_defect_on_the_number_of_values_is_too_large() -> None:
    """A limit is told as one, with what it is of; what is announced counts, be it there or not."""
    room = MAX_REQUEST_VALUES - 5  # the map, three of its values, the array
    for head, too_many in (
        (b"\xdc" + room.to_bytes(2, "big"), False),
        (b"\xdc" + (room + 1).to_bytes(2, "big"), True),
        (b"\xde" + (room // 2 + 1).to_bytes(2, "big"), True),
        (b"\xdf\x7f\xff\xff\xff", True),
        (b"\xdd\0\0\1\1", True),
    ):
        ((event, _),) = read_events(greeted_server(), [frame(b"\x82\xa2id\x02\xa2op" + head + bytes(100))])
        assert isinstance(event, RequestReceived)
        assert event.defect is not None
        assert isinstance(event.defect, TooLargeError if too_many else InvalidRequestError)
        limit = {"limit": MAX_REQUEST_VALUES} if too_many else {}
        assert event.defect.details == {"field": "header", **limit}


@given(data=st.binary(max_size=60), number=st.integers(1, MAX_REQUEST_ID))
def test_anything_behind_an_id_is_a_request(data: bytes, number: int) -> None:
    """No bytes behind an id that can be read end the connection."""
    check_ids(greeted_server, b"\x83\xa2id" + msgpack.packb(number) + data, number)
    check_ids(greeted_server, b"\x83\xa2id" + msgpack.packb(float(number)) + data, number)


def check_ids(make: Callable[[], Any], header: bytes, number: int) -> None:
    """The header, wherever it ends, is a request with that id."""
    ((event, _),) = read_events(make(), [frame(header)])
    assert event.id == number


def test_id_in_flight_ends_a_defective_request_too() -> None:
    """Its refusal could be taken for the answer of the other one."""
    server = greeted_server()
    read_events(server, [request(2)])
    with pytest.raises(RemoteProtocolError, match="already in flight"):
        read_events(server, [frame(b"\x82\xa2id\x02\xa2op\xc1")])


def test_good_frames_before_a_broken_one_are_served() -> None:
    """In one batch, what came before the broken frame counts and what comes after it does not."""
    server = greeted_server()
    buffer = bytearray(request(5) + BROKEN_REQUESTS["id 0"] + request(6))
    server.receive_data(memoryview(buffer))
    event = server.next_event()
    assert isinstance(event, RequestReceived)
    with pytest.raises(RemoteProtocolError):
        server.next_event()
    with pytest.raises(LocalProtocolError):
        server.next_event()
    assert server.in_flight == 1
    assert server.send_result(5, {})  # a reply already on its way may still go out
    buffer.clear()  # the connection has let go of the bytes it was lent, or this would raise


class TakesTrueConnection(ServerConnection):
    """A planted bug: an id of any kind is taken."""

    def _request(self, data: memoryview | bytearray, payload_size: int) -> RequestReceived:
        return RequestReceived(id=1, op="session.hello", args={}, payload_size=payload_size)


@pytest.mark.parametrize("name", ["id true", "id 0", "no id"])
def test_check_of_broken_requests_finds_a_planted_bug(name: str) -> None:
    """A connection that does not look fails the check."""
    with pytest.raises(pytest.fail.Exception):
        check_breaks(TakesTrueConnection, BROKEN_REQUESTS[name], wholly)


def test_check_of_staying_in_error_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that goes on after an error fails the check."""
    monkeypatch.setattr(FrameDecoder, "fail", lambda _self: None)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_breaks(greeted_server, BROKEN_REQUESTS["id 0"], wholly)


@every_split
def test_id_in_flight_cannot_be_used_again(pieces: Pieces) -> None:
    """An id may be used again once it is answered, not before."""
    server = greeted_server()
    read_events(server, pieces(request(5)))
    server.send_result(5, {})
    read_events(server, pieces(request(5)))
    with pytest.raises(RemoteProtocolError, match="already in flight"):
        read_events(server, pieces(request(5)))


def test_largest_id_is_allowed() -> None:
    """Ids go from 1 to the largest that every language can hold, and may be written as floats."""
    events = read_events(greeted_server(), [request(MAX_REQUEST_ID) + request(1) + request(2.0**53 - 2)])
    assert [event.id for event, _ in events] == [MAX_REQUEST_ID, 1, MAX_REQUEST_ID - 1]


def test_error_of_the_connection_is_the_last_thing_read() -> None:
    """Who is told that the connection ends is not read any more; what came before is still answered."""
    server = greeted_server()
    read_events(server, [request(5)])
    assert server.greeted
    server.send_error(0, InternalError())
    assert not server.greeted
    with pytest.raises(LocalProtocolError):
        server.receive_data(memoryview(request(6)))
    assert server.send_result(5, {})


def test_unknown_operation_is_not_the_connection_s_business() -> None:
    """An operation, or arguments, that nobody knows are handed on: a refused request ends no connection."""
    ((event, _),) = read_events(greeted_server(), [request(2, "no.such", {"a": [1, {"b": None}]})])
    assert isinstance(event, RequestReceived)
    assert (event.op, event.args) == ("no.such", {"a": [1, {"b": None}]})


def test_reply_that_cannot_be_sent_can_be_answered_with_an_error() -> None:
    """Too large a result, or one that cannot be encoded, leaves the request open."""
    server = greeted_server()
    read_events(server, [request(5)])
    for result, size in (({"a": "x" * MAX_RESPONSE_HEADER}, 0), ({"a": "\ud800"}, 0), ({}, MAX_PAYLOAD + 1)):
        with pytest.raises(LocalProtocolError):
            server.send_result(5, result, size)
        assert server.in_flight == 1
    server.send_error(5, InternalError())
    with pytest.raises(LocalProtocolError, match="not open"):
        server.send_result(5, {})
    with pytest.raises(LocalProtocolError, match="not open"):
        server.send_error(5, InternalError())


def test_payload_can_be_received_in_place_and_discarded() -> None:
    """A payload may be received in place; one that nobody wants leaves the next frame whole."""
    server, target = greeted_server(), bytearray(6)
    server.receive_data(memoryview(packed({"id": 2, "op": "x.y", "args": {}}, b"secret")[:-4]))
    server.next_event()
    server.accept_payload(memoryview(target))
    assert server.next_event() is None
    room = server.payload_room()
    assert room is not None
    room[:] = b"cret"
    server.payload_received(4)
    assert server.next_event() == PayloadReceived(id=2)
    assert target == b"secret"
    server.receive_data(memoryview(packed({"id": 3, "op": "x.y", "args": {}}, b"unwanted") + request(4)))
    server.next_event()
    server.accept_payload(None)
    assert server.next_event() == PayloadReceived(id=3)
    assert isinstance(server.next_event(), RequestReceived)


def test_no_event_comes_before_a_payload_is_accepted() -> None:
    """Reading on without saying where the payload goes is misuse, and told."""
    server = greeted_server()
    server.receive_data(memoryview(packed({"id": 2, "op": "x.y", "args": {}}, b"secret")))
    server.next_event()
    with pytest.raises(LocalProtocolError):
        server.next_event()
    server.accept_payload(None)
    assert server.next_event() == PayloadReceived(id=2)
