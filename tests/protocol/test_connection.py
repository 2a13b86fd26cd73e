"""The connection: both ends against each other, each against hostile bytes, whole and byte by byte."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgpack
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keyholt_protocol.connection import (
    ClientConnection,
    PayloadReceived,
    RequestReceived,
    ResponseReceived,
    ServerConnection,
)
from keyholt_protocol.errors import (
    ConflictError,
    ErrorCode,
    InternalError,
    InvalidRequestError,
    LocalProtocolError,
    NotFoundError,
    RemoteProtocolError,
    TooLargeError,
    UnsupportedError,
)
from keyholt_protocol.framing import FrameDecoder
from keyholt_protocol.limits import (
    MAX_ENTRIES,
    MAX_IN_FLIGHT,
    MAX_PAYLOAD,
    MAX_REQUEST_HEADER,
    MAX_REQUEST_ID,
    MAX_RESPONSE_HEADER,
)
from tests.protocol.test_codec import HOSTILE
from tests.protocol.wire import Pieces, bytewise, frame, greeted_server, read_events, split_at, wholly

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


@every_split
def test_request_and_result_with_payloads(pieces: Pieces) -> None:
    """A request with its payload reaches the server, its result with a payload the client."""
    client, server = ClientConnection(), greeted_server()
    number, head = client.send_request("secret.put", {"path": "a"}, 5)
    events = read_events(server, pieces(head + b"value"))
    assert events == [
        (RequestReceived(id=number, op="secret.put", args={"path": "a"}, payload_size=5), b""),
        (PayloadReceived(id=number), b"value"),
    ]
    reply = server.send_result(number, {"version": 3}, 2) + b"ok"
    assert read_events(client, pieces(reply)) == [
        (ResponseReceived(id=number, result={"version": 3}, error=None, payload_size=2), b""),
        (PayloadReceived(id=number), b"ok"),
    ]
    assert client.in_flight == server.in_flight == 0


@every_split
@pytest.mark.parametrize("details", [None, {"field": "path", "of a newer agent": [1, {"a": None}]}], ids=repr)
def test_error_reaches_the_client_as_its_class(pieces: Pieces, details: dict[str, object] | None) -> None:
    """Code, words, details, and whether a retry helps arrive; no details are an empty map."""
    client, server = ClientConnection(), greeted_server()
    number, head = client.send_request("secret.get", {"path": "a"})
    read_events(server, pieces(head))
    error = NotFoundError("no a", details=details)
    ((event, _),) = read_events(client, pieces(server.send_error(number, error)))
    assert isinstance(event, ResponseReceived)
    assert event.result is None
    assert type(event.error) is NotFoundError
    assert (str(event.error), event.error.details, event.error.retryable) == ("no a", details or {}, False)


@every_split
def test_error_of_the_connection_reaches_the_client(pieces: Pieces) -> None:
    """Id 0 answers no request: those in flight stay so."""
    client, server = ClientConnection(), ServerConnection()
    client.send_request("x.y", {})
    ((event, _),) = read_events(client, pieces(server.send_error(0, ConflictError())))
    assert isinstance(event, ResponseReceived)
    assert (event.id, type(event.error)) == (0, ConflictError)
    assert client.in_flight == 1


HOSTILE_HEADERS: Final = {f"header: {name}": frame(data) for name, data in HOSTILE.items() if data}
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
    "deep before it, as far as is looked": frame(b"\x82\xa1a" + b"\x91" * 254 + b"\xc0\xa2id\x02"),
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
BROKEN_RESPONSES: Final = {
    "not asked for": packed({"id": 2, "ok": True, "result": {}}),
    "id 0 with a result": packed({"id": 0, "ok": True, "result": {}}),
    "id negative": packed({"id": -1, "ok": True, "result": {}}),
    "id true": packed({"id": True, "ok": True, "result": {}}),
    "id float": packed({"id": 1.0, "ok": True, "result": {}}),
    "ok 1": packed({"id": 1, "ok": 1, "result": {}}),
    "ok nothing": packed({"id": 1, "ok": None, "result": {}}),
    "no ok": packed({"id": 1, "result": {}}),
    "result and error": packed({"id": 1, "ok": True, "result": {}, "error": error_body()}),
    "error for a result": packed({"id": 1, "ok": True, "error": error_body()}),
    "result for an error": packed({"id": 1, "ok": False, "result": {}}),
    "result array": packed({"id": 1, "ok": True, "result": []}),
    "result nothing": packed({"id": 1, "ok": True, "result": None}),
    "error text": packed({"id": 1, "ok": False, "error": "no"}),
    "event of a stream": packed({"id": 1, "event": {}}),
    "event beside ok": packed({"id": 1, "ok": True, "result": {}, "event": {}}),
    "error without message": packed({"id": 1, "ok": False, "error": {"code": "locked"}}),
    "error with a field more": packed(failure(reason="x")),
    "error with a payload": packed(failure(), b"secret"),
    "error code number": packed(failure(code=4)),
    "error message nothing": packed(failure(message=None)),
    "error retryable 1": packed(failure(retryable=1)),
    "error details text": packed(failure(details="path")),
    "error details nothing": packed(failure(details=None)),
    "request": request(1),
    **HOSTILE_HEADERS,
}  # fmt: skip


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


def test_defect_on_the_number_of_entries_is_too_large() -> None:
    """A limit is told as one, with what it is of; arrays and maps have the same."""
    for head in (b"\xdc\x01\x00", b"\xdc\x01\x01", b"\xde\x01\x01", b"\xdf\x7f\xff\xff\xff", b"\xdd\0\0\1\1"):
        ((event, _),) = read_events(greeted_server(), [frame(b"\x82\xa2id\x02\xa2op" + head)])
        assert isinstance(event, RequestReceived)
        assert event.defect is not None
        too_many = int.from_bytes(head[1:], "big") > MAX_ENTRIES
        assert isinstance(event.defect, TooLargeError if too_many else InvalidRequestError)
        assert event.defect.details == {"field": "header", **({"limit": MAX_ENTRIES} if too_many else {})}


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


@every_split
@pytest.mark.parametrize("name", BROKEN_RESPONSES)
def test_broken_response_ends_the_connection(name: str, pieces: Pieces) -> None:
    """A response that breaks a rule, or that nobody asked for, ends the connection for good."""
    check_breaks(asking_client, BROKEN_RESPONSES[name], pieces)


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
def test_hello_must_come_first(pieces: Pieces) -> None:
    """Any other first request breaks the connection; hello opens it."""
    check_breaks(ServerConnection, request(1, "agent.status"), pieces)
    check_breaks(ServerConnection, request(1, "session.hello "), pieces)
    check_breaks(ServerConnection, frame(b"\x83\xa2id\x01\xa2op\xadsession.hello\xa4args\xc1"), pieces)
    server = ServerConnection()
    assert not server.greeted
    read_events(server, pieces(packed(HELLO)))
    assert server.greeted
    server.send_result(1, {})
    assert len(read_events(server, pieces(request(1, "agent.status")))) == 1


@every_split
@pytest.mark.parametrize(
    "first", [{**HELLO, "args": {"version": 99}}, {**HELLO, "args": []}, {**HELLO, "x": 1}]
)
def test_refused_hello_opens_nothing(pieces: Pieces, first: dict[str, object]) -> None:
    """After a refused hello, also one with a defect, the client may try another one, and nothing else."""
    for then, works in ((packed(HELLO), True), (request(2, "agent.status"), False)):
        server = ServerConnection()
        read_events(server, pieces(packed(first)))
        server.send_error(1, UnsupportedError())
        assert not server.greeted
        if works:
            assert len(read_events(server, pieces(then))) == 1
            assert server.greeted
        else:
            with pytest.raises(RemoteProtocolError, match="must be the first"):
                read_events(server, pieces(then))


@pytest.mark.parametrize(
    "rest", [{}, {"client": 5}, {"client": "\x1b"}, {"client": None, "since": 2.5, "rooms": [{}]}]
)
@pytest.mark.parametrize("version", [0, -1, 2, 2.0, 2**40])
def test_version_is_looked_at_first(version: float, rest: dict[str, object]) -> None:
    """A greeting of another version is told which ones there are, whatever else it holds."""
    for header in ({"id": 1}, {"id": 1, "era": 2}):
        server = ServerConnection()
        hello = packed({**header, "op": "session.hello", "args": {**rest, "version": version}})
        ((event, _),) = read_events(server, [hello])
        assert isinstance(event, RequestReceived)
        assert isinstance(event.defect, UnsupportedError)
        assert event.defect.details == {"versions": [1]}
        server.send_error(1, event.defect)
        read_events(server, [packed(HELLO)])
        assert server.greeted


@pytest.mark.parametrize("args", [{}, {"version": "2"}, {"version": True}, {"version": 1.5}, {"version": 1}])
def test_greeting_without_another_version_is_held_against_its_fields(args: dict[str, object]) -> None:
    """Only a version that is one, and another one, is unsupported."""
    ((event, _),) = read_events(ServerConnection(), [packed({**HELLO, "args": args})])
    assert isinstance(event, RequestReceived)
    assert (event.defect, event.args) == (None, args)


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


def test_full_is_told_at_the_limit() -> None:
    """Both sides can see that no further request fits."""
    client, server = ClientConnection(), greeted_server()
    for number in range(1, MAX_IN_FLIGHT + 1):
        assert not client.full
        assert not server.full
        read_events(server, [client.send_request("x.y", {})[1]])
        assert client.in_flight == server.in_flight == number
    assert client.full
    assert server.full
    read_events(client, [server.send_result(3, {})])
    assert not client.full
    assert not server.full


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


@pytest.mark.parametrize(
    "message", ["x" * 200_000, "\U0001f600" * 100_000, "/srv/\udcff/store", "\0" * 90_000]
)
def test_any_message_of_an_error_can_be_sent(message: str) -> None:
    """A long message is cut, and a file name that is no text is spelled out."""
    client, server = asking_client(), greeted_server()
    read_events(server, [request(5)])
    ((event, _),) = read_events(client, [server.send_error(0, InternalError(message))])
    assert isinstance(event, ResponseReceived)
    assert str(event.error)[:5] == message[:5]
    assert "\\udcff" in str(event.error) or len(str(event.error)) == 2000


def test_request_that_cannot_be_sent_takes_no_id() -> None:
    """What the wire cannot carry is refused before anything is sent, and the connection goes on."""
    client = ClientConnection()
    for args, size in (({"a": "x" * MAX_REQUEST_HEADER}, 0), ({"a": "\ud800"}, 0), ({}, MAX_PAYLOAD + 1)):
        with pytest.raises(LocalProtocolError):
            client.send_request("x.y", args, size)
    assert client.in_flight == 0
    assert client.send_request("x.y", {})[0] == 1


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


@settings(max_examples=60)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_read_alike_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    """Whatever comes, whole or in pieces, events and error are the same, and nothing else is raised."""
    for make in (greeted_server, asking_client):
        for stream in (data, request(3) + data, frame(data or b"\x80") + request(4)):
            assert (
                len({outcome(make(), pieces(stream)) for pieces in (wholly, bytewise, split_at(cuts))}) == 1
            )


def outcome(connection: Any, pieces: Iterable[bytes]) -> str:
    """The events that come out, and the error if one ends them."""
    events, end = list[Any](), ""
    try:
        read_events(connection, pieces, events)
    except RemoteProtocolError as error:
        end = repr(error)
    return "\n".join(map(repr, events)) + end


def hostile_frames(seed: int, count: int) -> None:
    """Mutated conversations against both ends; only the three ways out that are documented may be taken."""
    dice = random.Random(seed)
    talk = [
        packed(HELLO),
        request(2, "secret.get", {"path": "a/b"}),
        packed({"id": 3, "op": "x.y", "args": {}}, b"payload"),
    ]
    talk += [packed({"id": 1, "ok": True, "result": {"version": 1}}, b"v"), packed(failure())]
    for _ in range(count):
        stream = bytearray(b"".join(dice.choices(talk, k=dice.randint(1, 3))))
        for _ in range(dice.randint(0, 3)):
            stream[dice.randrange(len(stream))] = dice.randrange(256)
        cut = dice.randrange(len(stream))
        for make in (ServerConnection, greeted_server, asking_client):
            outcome(make(), [bytes(stream[:cut]), bytes(stream[cut:])])


def test_mutated_conversations_break_by_the_rules() -> None:
    """Thousands of conversations with bytes changed: events, or a broken rule, and no other exception."""
    hostile_frames(1, 4_000)


@pytest.mark.torture
def test_a_million_hostile_frames() -> None:
    """The same, a million times."""
    hostile_frames(2, 350_000)


class Conversation(RuleBasedStateMachine):
    """Two ends joined by two pipes that deliver any number of bytes at a time; replies in any order."""

    server_type: type[ServerConnection] = ServerConnection

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = ClientConnection(), self.server_type()
        self.to_server, self.to_client = bytearray(), bytearray()
        self.asked: dict[int, tuple[str, int]] = {}  # what was sent and has had no answer yet
        self.arrived: list[int] = []  # whole at the server, not yet answered
        self.answers: dict[int, tuple[bool, bytes]] = {}  # sent by the server, not yet seen by the client
        self.targets: dict[Any, tuple[Any, bytearray]] = {}
        self.seen = 0

    @staticmethod
    def payload(number: int, size: int, salt: int) -> bytes:
        return bytes((number * 7 + place + salt) % 251 for place in range(size))

    @initialize()
    def greet(self) -> None:
        self.ask(0, "session.hello")
        self.deliver_to_server(10**6)
        self.answer(0, 0, False)

    @precondition(lambda self: len(self.asked) < 20)
    @rule(size=st.sampled_from([0, 0, 1, 40, 3000]))
    def ask(self, size: int, op: str = "x.y") -> None:
        number, head = self.client.send_request(op, {"n": len(self.asked)}, size)
        assert number not in self.asked
        self.asked[number] = op, size
        self.to_server += head + self.payload(number, size, 1)

    @precondition(lambda self: self.to_server)
    @rule(size=st.integers(1, 400) | st.just(10**6))
    def deliver_to_server(self, size: int) -> None:
        for event, payload in self.deliver(self.server, self.to_server, size):
            op, expected = self.asked[event.id]
            assert (event.op, payload) == (op, self.payload(event.id, expected, 1))
            self.arrived.append(event.id)

    @precondition(lambda self: self.arrived)
    @rule(which=st.integers(0, 100), size=st.sampled_from([0, 0, 1, 40, 3000]), error=st.booleans())
    def answer(self, which: int, size: int, error: bool) -> None:
        number = self.arrived.pop(which % len(self.arrived))
        if error:
            self.to_client += self.server.send_error(number, NotFoundError(f"no {number}"))
            self.answers[number] = True, b""
        else:
            payload = self.payload(number, size, 2)
            self.to_client += self.server.send_result(number, {"n": number}, size) + payload
            self.answers[number] = False, payload

    @precondition(lambda self: self.to_client)
    @rule(size=st.integers(1, 400) | st.just(10**6))
    def deliver_to_client(self, size: int) -> None:
        for event, payload in self.deliver(self.client, self.to_client, size):
            failed, expected = self.answers.pop(event.id)
            del self.asked[event.id]
            assert (str(event.error) if failed else event.result) == (
                f"no {event.id}" if failed else {"n": event.id}
            )
            assert payload == expected
            self.seen += 1

    def deliver(self, end: Any, pipe: bytearray, size: int) -> list[tuple[Any, bytes]]:
        """Move bytes to one end as an adapter would, in place where it can; gives headers and payloads."""
        whole = list[tuple[Any, bytes]]()
        room = end.payload_room()
        if room is not None:
            size = min(size, len(room), len(pipe))
            room[:size] = pipe[:size]
            end.payload_received(size)
        else:
            size = min(size, len(pipe))
            end.receive_data(memoryview(bytes(pipe[:size])))
        del pipe[:size]
        while (event := end.next_event()) is not None:
            if isinstance(event, PayloadReceived):
                header, target = self.targets.pop(end)
                assert header.id == event.id
                whole.append((header, bytes(target)))
            elif event.payload_size:
                self.targets[end] = event, bytearray(event.payload_size)
                end.accept_payload(memoryview(self.targets[end][1]))
            else:
                whole.append((event, b""))
        return whole

    @invariant()
    def counts_agree(self) -> None:
        assert self.client.in_flight >= len(self.asked) - (self.client in self.targets)
        assert self.server.in_flight == len(self.arrived) + (self.server in self.targets)
        assert self.server.mid_frame or not self.targets.get(self.server)

    def teardown(self) -> None:
        while self.to_server or self.arrived or self.to_client:
            if self.to_server:
                self.deliver_to_server(10**6)
            if self.arrived:
                self.answer(0, 1, False)
            if self.to_client:
                self.deliver_to_client(10**6)
        assert not self.asked
        assert not self.answers
        assert self.client.in_flight == self.server.in_flight == 0
        assert not self.client.mid_frame
        assert not self.server.mid_frame


MACHINE: Final = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_conversation_delivers_everything_once() -> None:
    """Pipelined, with payloads both ways, overtaken and cut anywhere, each request gets its answer, once."""
    run_state_machine_as_test(Conversation, settings=MACHINE)


def test_conversation_finds_a_planted_bug() -> None:
    """A server that mixes up the payloads' ids, only when two requests overlap, is found out."""

    class Confused(ServerConnection):
        def send_result(self, request_id: int, result: Any, payload_size: int = 0) -> bytes:
            if self.in_flight > 1:
                other = next(iter(self._open))
                return super().send_result(other, result, payload_size)
            return super().send_result(request_id, result, payload_size)

    class Planted(Conversation):
        server_type = Confused

    unshrunk = settings(MACHINE, phases=[Phase.generate])
    with pytest.raises((AssertionError, KeyError, LocalProtocolError)):
        run_state_machine_as_test(Planted, settings=unshrunk)
