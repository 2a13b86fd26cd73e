"""The client's end against responses that break a rule, whole and byte by byte."""

from __future__ import annotations

from typing import Any, Final

import pytest

from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.errors import LocalProtocolError
from keyholt_protocol.limits import MAX_PAYLOAD, MAX_REQUEST_HEADER
from tests.protocol.ends import asking_client, check_breaks, error_body, every_split, failure, packed, request
from tests.protocol.hostile_headers import HOSTILE
from tests.protocol.wire import Pieces, frame, read_events

HOSTILE_HEADERS: Final = {f"header: {name}": frame(data) for name, data in HOSTILE.items() if data}
BROKEN_RESPONSES: Final = {
    "not asked for": packed({"id": 2, "ok": True, "result": {}}),
    "id 0 with a result": packed({"id": 0, "ok": True, "result": {}}),
    "two last words": packed(failure(0)) * 2,
    "two last words, an answer between": packed(failure(0)) + packed(failure(1)) + packed(failure(0)),
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


@every_split
@pytest.mark.parametrize("name", BROKEN_RESPONSES)
def test_broken_response_ends_the_connection(name: str, pieces: Pieces) -> None:
    """A response that breaks a rule, or that nobody asked for, ends the connection for good."""
    check_breaks(asking_client, BROKEN_RESPONSES[name], pieces)


@every_split
def test_answers_may_come_behind_the_last_word(pieces: Pieces) -> None:
    """An error for the whole connection ends nothing by itself: what is in flight may still be answered."""
    events: list[Any] = []
    client = asking_client()
    read_events(client, pieces(packed(failure(0)) + packed(failure(1))), events)
    assert [event.id for event, _ in events] == [0, 1]
    assert client.in_flight == 0


def test_request_that_cannot_be_sent_takes_no_id() -> None:
    """What the wire cannot carry is refused before anything is sent, and the connection goes on."""
    client = ClientConnection()
    for args, size in (({"a": "x" * MAX_REQUEST_HEADER}, 0), ({"a": "\ud800"}, 0), ({}, MAX_PAYLOAD + 1)):
        with pytest.raises(LocalProtocolError):
            client.send_request("x.y", args, size)
    assert client.in_flight == 0
    assert client.send_request("x.y", {})[0] == 1
