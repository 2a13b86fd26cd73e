"""The fast path writes and reads the wire by hand: always as the protocol does, or it leaves it alone."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import msgpack
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keyholt import invocations
from keyholt.address import Address
from keyholt.cli import fast
from keyholt.cli.fast import UnusualError, fetch, pack_get, read_head
from keyholt_protocol import limits
from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.codec import pack_header, to_map, unpack_header
from keyholt_protocol.errors import InvalidRequestError, NotFoundError, TooLargeError
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.messages import SecretGetRequest, SecretGetResult
from keyholt_protocol.server_connection import ServerConnection
from tests.client.scripted import Peer, ScriptedAgent

GOT = SecretGetResult(version=2, created=5, expires=7, labels={"a": "b"})


def test_the_constants_are_the_protocols() -> None:
    """The greeting and the limits, which cannot be imported in time, are those of the protocol."""
    connection = ClientConnection()
    hello = invocations.session_hello()
    _, head = connection.send_request(hello.operation.name, to_map(hello.request))
    assert fast._frame(fast.HELLO) == head
    assert (fast.MAX_PATH, fast.MAX_VERSION) == (limits.MAX_PATH, limits.MAX_VERSION)
    assert (fast.MAX_HEADER, fast.MAX_VALUE) == (limits.MAX_RESPONSE_HEADER, limits.MAX_VALUE)
    assert min(limits.MAX_IN_FLIGHT, fast._BIGGEST_ID) >= fast.BATCH + 1


@given(st.integers(2, 127), st.text(min_size=1), st.none() | st.integers(1, limits.MAX_VERSION))
def test_requests_are_what_the_agent_reads(number: int, path: str, version: int | None) -> None:
    """A request written by hand is, to the agent's own decoder, the request that the library would send."""
    try:
        request = SecretGetRequest(path=path, version=version)
    except InvalidRequestError:
        return
    agent = ServerConnection()
    agent.receive_data(memoryview(fast._frame(fast.HELLO) + pack_get(number, path, version)))
    hello, event = agent.next_event(), agent.next_event()
    assert isinstance(hello, RequestReceived)
    assert event == RequestReceived(id=number, op="secret.get", args=to_map(request), payload_size=0)


@given(st.integers(1, 127))
def test_every_success_of_the_agent_is_read(number: int) -> None:
    """The header of any result, as the agent writes it, gives its id."""
    agent = ServerConnection()
    agent._open.add(number)
    head = agent.send_result(number, to_map(GOT), 48)
    assert read_head(head[limits.PREFIX_SIZE :]) == number


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
near = st.fixed_dictionaries(
    {"id": st.integers(0, 300) | json, "ok": st.booleans() | json, "result": st.just({}) | json},
    optional={"error": json},
)


@given(
    near
    | st.permutations(["id", "ok", "result"]).map(
        lambda keys: {key: {"id": 1, "ok": True}.get(key, {}) for key in keys}
    )
)
def test_no_other_header_is_taken_for_a_success(header: dict[str, object]) -> None:
    """Held against msgpack: where a header is taken for a success of request N, that is what it decodes
    to.
    """
    data = msgpack.packb(header)
    try:
        number = read_head(data)
    except UnusualError:
        return
    decoded = unpack_header(data)
    assert decoded["id"] == number
    assert decoded["ok"] is True
    assert decoded.keys() == {"id", "ok", "result"}


@given(st.binary(max_size=40), st.integers(0, 30))
def test_damaged_headers_are_unusual_or_still_say_the_same(noise: bytes, at: int) -> None:
    """Whatever is written over a header, either it is unusual or it still decodes to that id and success."""
    good = pack_header({"id": 5, "ok": True, "result": to_map(GOT)})
    data = good[:at] + noise + good[at + len(noise) :]
    try:
        number = read_head(data)
    except UnusualError:
        return
    try:
        decoded = unpack_header(data)
    except (InvalidRequestError, TooLargeError):
        assume(False)
    assert (decoded["id"], decoded["ok"]) == (number, True)


def test_values_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """Answers that overtake each other, empty ones and large ones are put in their places."""

    def script(peer: Peer) -> None:
        peer.greet()
        requests = [peer.request()[0] for _ in range(3)]
        for request, value in reversed(list(zip(requests, [b"a", b"", bytes(3_000_000)], strict=True))):
            peer.answer(request, GOT, value)

    with ScriptedAgent(tmp_path / "s", script) as agent:
        assert fetch(Address("unix", path=agent.address), [("a", None), ("b", 1), ("c", None)]) == [
            b"a",
            b"",
            bytes(3_000_000),
        ]


def test_more_than_a_batch(tmp_path: Path) -> None:
    """More secrets than may be in flight are fetched over one connection."""
    wanted = [(str(number), None) for number in range(2 * fast.BATCH + 1)]

    def script(peer: Peer) -> None:
        peer.greet()
        for _ in wanted:
            request, _ = peer.request()
            peer.answer(request, GOT, str(request.args["path"]).encode())

    with ScriptedAgent(tmp_path / "s", script) as agent:
        assert fetch(Address("unix", path=agent.address), wanted) == [path.encode() for path, _ in wanted]


@pytest.mark.parametrize("way", ["error", "garbage", "half", "twice", "huge", "silent"])
def test_anything_else_is_unusual(tmp_path: Path, way: str) -> None:
    """An error answer, bytes that are no answer, one that ends early or comes twice: all are left to the
    library.
    """

    def script(peer: Peer) -> None:
        peer.greet()
        first, second = peer.request()[0], peer.request()[0]
        if way == "error":
            peer.answer(first, GOT, b"x")
            peer.fail(second, NotFoundError())
        elif way == "garbage":
            peer.send(b"\xff" * 100)
        elif way == "huge":
            peer.send(struct.pack(">II", 20, limits.MAX_PAYLOAD + 1) + bytes(20))
        elif way == "twice":
            head = peer._connection.send_result(first.id, to_map(GOT), 1) + b"x"
            peer.send(head + head)
        elif way == "half":
            peer.send(peer._connection.send_result(first.id, to_map(GOT), 9) + b"x")
        peer.sock.shutdown(socket.SHUT_RDWR)

    with ScriptedAgent(tmp_path / "s", script) as agent, pytest.raises(UnusualError):
        fetch(Address("unix", path=agent.address), [("a", None), ("b", None)])


def test_no_agent_and_bad_names_are_unusual(tmp_path: Path) -> None:
    """What cannot be sent or connected to is left to the library, which says why."""
    for path in ("", "x" * 513, "\udcff"):
        with pytest.raises((UnusualError, UnicodeEncodeError)):
            pack_get(2, path, None)
    with pytest.raises(UnusualError):
        fetch(Address("unix", path=str(tmp_path / "nothing")), [("a", None)])
    with pytest.raises(UnusualError):
        fetch(Address("unix", path="x" * 200), [("a", None)])
    with pytest.raises(UnusualError):
        fetch(Address("fd", descriptor=71), [("a", None)])
