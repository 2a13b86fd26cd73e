"""Both ends against each other, each against any bytes, whole and byte by byte."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.errors import ConflictError, InternalError, NotFoundError
from keyholt_protocol.events import PayloadReceived, RequestReceived, ResponseReceived
from keyholt_protocol.limits import MAX_IN_FLIGHT
from keyholt_protocol.server_connection import ServerConnection
from tests.protocol.ends import HELLO, asking_client, every_split, failure, outcome, packed, request
from tests.protocol.wire import Pieces, bytewise, frame, greeted_server, read_events, split_at, wholly


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


@settings(max_examples=60)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_read_alike_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    """Whatever comes, whole or in pieces, events and error are the same, and nothing else is raised."""
    for make in (greeted_server, asking_client):
        for stream in (data, request(3) + data, frame(data or b"\x80") + request(4)):
            assert (
                len({outcome(make(), pieces(stream)) for pieces in (wholly, bytewise, split_at(cuts))}) == 1
            )


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
