"""The greeting, seen by the agent: it comes first, and a refused one opens nothing."""

from __future__ import annotations

import pytest

from keyholt_protocol.errors import RemoteProtocolError, UnsupportedError
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.server_connection import ServerConnection
from tests.protocol.ends import HELLO, check_breaks, every_split, packed, request
from tests.protocol.wire import Pieces, frame, read_events


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
