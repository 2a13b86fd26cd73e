"""The usual fetch and its packed answer: held against the codec, which knows no usual form."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol.codec import as_integer, from_map, pack_header, to_map, unpack_header
from keyholt_protocol.connection import RequestReceived, ServerConnection
from keyholt_protocol.errors import KeyholtError
from keyholt_protocol.limits import MAX_REQUEST_ID
from keyholt_protocol.messages import SecretGetRequest, SecretGetResult
from keyholt_protocol.usual import USUAL_FETCH, pack_result, read_usual_fetch, result_header

IDS = st.one_of(
    st.integers(1, 300),
    st.integers(60_000, 70_000),
    st.integers(2**32 - 5, 2**32 + 5),
    st.integers(1, 2**53 - 1),
)
PATHS = st.one_of(
    st.from_regex(r"[a-z]{1,40}(/[a-z0-9._-]{1,60}){0,3}", fullmatch=True),
    st.text(max_size=40),
    st.just("ö/ß"),
)


def usual(request_id: int, path: str) -> bytes:
    """A fetch as clients usually write it."""
    return bytes(msgpack.packb({"id": request_id, "op": "secret.get", "args": {"path": path}}))


def decoded(data: bytes) -> tuple[int, SecretGetRequest] | None:
    """What the codec makes of a fetch; ``None`` where it finds a fault, or something else."""
    try:
        header = unpack_header(data)
        request_id = as_integer(header["id"])
        if header.keys() != {"id", "op", "args"} or header["op"] != "secret.get" or request_id is None:
            return None
        args = header["args"]
        assert isinstance(args, dict)
        return (request_id, from_map(SecretGetRequest, args)) if 0 < request_id <= MAX_REQUEST_ID else None
    except (KeyholtError, KeyError, AssertionError):
        return None


@given(request_id=IDS, path=PATHS)
def test_usual_fetch_is_read_as_the_codec_does(request_id: int, path: str) -> None:
    """One with a path that may be is read; one that is to be refused is left to those who refuse it."""
    data = usual(request_id, path)
    found = read_usual_fetch(data)
    if len(path.encode()) < 256:
        assert found == decoded(data)
    else:
        assert found is None


@given(
    request_id=IDS,
    at=st.integers(0, 200),
    byte=st.integers(0, 255),
    cut=st.integers(0, 3),
    more=st.binary(max_size=2),
)
def test_whatever_is_read_the_codec_reads_alike(
    request_id: int, at: int, byte: int, cut: int, more: bytes
) -> None:
    """With a byte changed, cut off or added anywhere, nothing is read that would be refused or mean
    another.
    """
    data = bytearray(usual(request_id, "prod/db/password"))
    data[at % len(data)] = byte
    changed = bytes(data[: len(data) - cut]) + more
    found = read_usual_fetch(changed)
    assert found is None or found == decoded(changed)


@pytest.mark.parametrize("size", range(len(usual(70_000, "prod/db/password"))))
def test_cut_short_anywhere(size: int) -> None:
    """What ends too early is no usual fetch, and nothing beyond its end is looked at."""
    assert read_usual_fetch(usual(70_000, "prod/db/password")[:size]) is None


@pytest.mark.parametrize(
    "data", [usual(1, "a"), usual(200, "a" * 31), usual(70_000, "a" * 32), usual(2**40, "ä" * 120)]
)
def test_every_usual_size_is_read(data: bytes) -> None:
    """The control of the others: each form of number and text that is said to be read is read."""
    assert read_usual_fetch(data) == decoded(data) is not None


@given(
    request_id=IDS,
    version=st.integers(1, 2**31 - 1),
    created=st.integers(0, 2**40),
    labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_packed_result_is_sent_as_the_codec_packs_it(
    request_id: int, version: int, created: int, labels: dict[str, str]
) -> None:
    """To the byte, whatever the id."""
    result = SecretGetResult(version=version, created=created, labels=labels)
    whole = pack_header({"id": request_id, "ok": True, "result": to_map(result)})
    assert result_header(request_id, pack_result(result)) == whole


def test_connection_reads_it_and_sends_its_answer() -> None:
    """A usual fetch comes as a message already; another form of the same request comes as arguments."""
    connection = ServerConnection()
    unusual = {"op": "secret.get", "args": {"path": "a"}, "id": 3}
    hello = {"id": 1, "op": "session.hello", "args": {"version": 1}}
    events: list[RequestReceived] = []
    for header in (bytes(msgpack.packb(hello)), usual(2, "a"), bytes(msgpack.packb(unusual))):
        connection.receive_data(memoryview(len(header).to_bytes(4, "big") + bytes(4) + header))
        event = connection.next_event()
        assert isinstance(event, RequestReceived)
        assert connection.next_event() is None
        events.append(event)
    assert [(event.id, event.op) for event in events[1:]] == [(2, USUAL_FETCH), (3, USUAL_FETCH)]
    assert events[1].message == from_map(SecretGetRequest, events[2].args)
    result = SecretGetResult(version=1, created=5)
    packed, plain = (
        connection.send_result(2, pack_result(result), 9),
        connection.send_result(3, to_map(result), 9),
    )
    assert packed.replace(b"id\x02", b"id\x03") == plain
