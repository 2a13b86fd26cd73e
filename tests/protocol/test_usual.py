"""The usual fetch and its answer: held against the codec, which knows no usual form."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol.client_connection import ClientConnection
from keyholt_protocol.codec import as_integer, from_map, pack_header, to_map, unpack_header
from keyholt_protocol.errors import KeyholtError, LocalProtocolError, RemoteProtocolError
from keyholt_protocol.events import PayloadReceived, RequestReceived, ResponseReceived
from keyholt_protocol.limits import MAX_REQUEST_ID
from keyholt_protocol.messages import (
    SecretGetRequest,
    SecretGetResult,
    SecretHistoryResult,
    SecretInfo,
    SecretListResult,
    SecretVersionInfo,
)
from keyholt_protocol.server_connection import ServerConnection
from keyholt_protocol.usual import (
    ENTRIES_AT_ONCE,
    USUAL_FETCH,
    fetch_header,
    pack_entries,
    pack_page,
    pack_result,
    read_usual_answer,
    read_usual_fetch,
    result_header,
)

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


Change = Callable[[bytes], bytes]


def changing(at: int, byte: int, cut: int, more: bytes) -> Change:
    """What puts another byte into a header, cuts some off, and adds others."""

    def change(header: bytes) -> bytes:
        data = bytearray(header)
        data[at % len(data)] = byte
        return bytes(data[: len(data) - cut]) + more

    return change


CHANGES = st.builds(
    changing, st.integers(0, 200), st.integers(0, 255), st.integers(0, 3), st.binary(max_size=2)
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


@given(request_id=IDS, change=CHANGES)
def test_whatever_is_read_the_codec_reads_alike(request_id: int, change: Change) -> None:
    """With a byte changed, cut off or added anywhere, nothing is read that would be refused or mean
    another.
    """
    changed = change(usual(request_id, "prod/db/password"))
    found = read_usual_fetch(changed)
    assert found is None or found == decoded(changed)


@pytest.mark.parametrize("first", range(256))
def test_no_other_format_is_taken_for_text(first: int) -> None:
    """Whatever byte stands where a text begins, with as many bytes behind it as it could be taken to mean."""
    before = usual(1, "")[:-1]
    for size in (0, 1, (first - 0xA0) & 0xFF, first):
        data = before + bytes((first,)) + b"a" * size
        found = read_usual_fetch(data)
        assert found is None or found == decoded(data), (first, size)


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


@given(request_id=IDS, path=PATHS)
def test_fetch_is_written_as_the_codec_packs_it(request_id: int, path: str) -> None:
    """To the byte, whatever the id and the path's length."""
    try:
        request = SecretGetRequest(path=path)
    except KeyholtError:
        return
    whole = pack_header({"id": request_id, "op": "secret.get", "args": to_map(request)})
    assert fetch_header(request_id, path) == whole


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 512])
def test_fetch_of_every_length_of_path(size: int) -> None:
    """Each form of text that msgpack has for a path."""
    path = "/".join(["a" * 100] * 6)[:size].rstrip("/").ljust(size, "b")
    whole = pack_header({"id": 5, "op": "secret.get", "args": {"path": path}})
    assert fetch_header(5, path) == whole


def answered(data: bytes) -> tuple[int, dict[str, object]] | None:
    """What the codec makes of an answer with a version and a time; ``None`` of anything else."""
    try:
        header = unpack_header(data)
    except KeyholtError:
        return None
    result = header.get("result")
    request_id = header.get("id")
    if header.keys() != {"id", "ok", "result"} or header["ok"] is not True or not isinstance(result, dict):
        return None
    return (request_id, result) if isinstance(request_id, int) else None


NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1))


@given(request_id=IDS, version=NUMBERS, created=NUMBERS)
def test_usual_answer_is_read_as_the_codec_does(request_id: int, version: int, created: int) -> None:
    """Whatever the numbers, the id and the result are those that the codec reads."""
    result = {"version": version, "created": created}
    data = pack_header({"id": request_id, "ok": True, "result": result})
    assert read_usual_answer(data) == answered(data) == (request_id, result)


@given(request_id=IDS, change=CHANGES)
def test_whatever_answer_is_read_the_codec_reads_alike(request_id: int, change: Change) -> None:
    """With a byte changed, cut off or added anywhere, nothing is read that would mean another."""
    result = {"version": 3, "created": 1_760_000_000}
    changed = change(pack_header({"id": request_id, "ok": True, "result": result}))
    found = read_usual_answer(changed)
    assert found is None or found == answered(changed)


@pytest.mark.parametrize(
    "result",
    [
        {"version": 1, "created": 2, "expires": 3},
        {"created": 2, "version": 1},
        {"version": 1},
        {"version": "1", "created": 2},
        {"version": -1, "created": 2},
    ],
)
def test_other_answers_are_left_to_the_codec(result: dict[str, object]) -> None:
    """Labels, an expiry, another order, another type: none of them is usual."""
    assert read_usual_answer(pack_header({"id": 1, "ok": True, "result": result})) is None


def test_client_writes_and_reads_them() -> None:
    """A fetch goes out with its own number; its answer is taken for that number alone, and once."""
    client = ClientConnection()
    number, head = client.send_fetch("a/b")
    assert head[8:] == usual(1, "a/b")
    answer = pack_header({"id": number, "ok": True, "result": {"version": 1, "created": 2}})
    frame = len(answer).to_bytes(4, "big") + bytes(4) + answer
    client.receive_data(memoryview(frame + frame))
    event = client.next_event()
    assert isinstance(event, ResponseReceived)
    assert (event.id, event.result, event.error) == (1, {"version": 1, "created": 2}, None)
    with pytest.raises(RemoteProtocolError, match="a response came for 1, which is not in flight"):
        client.next_event()
    with pytest.raises(LocalProtocolError):
        client.send_fetch("a/b")


@pytest.mark.parametrize("cut", [None, 0, 1, 4])
def test_a_payload_that_came_with_its_header_is_whole_at_once(cut: int | None) -> None:
    """``take_payload`` says so, and no event follows; of one that came in part, the event follows."""
    client = ClientConnection()
    number, _ = client.send_fetch("a")
    answer = pack_header({"id": number, "ok": True, "result": {"version": 1, "created": 2}})
    frame = len(answer).to_bytes(4, "big") + (4).to_bytes(4, "big") + answer + b"\1\2\3\4"
    first = frame if cut is None else frame[: len(frame) - 4 + cut]
    client.receive_data(memoryview(first))
    event = client.next_event()
    assert isinstance(event, ResponseReceived)
    value = bytearray(4)
    assert client.take_payload(memoryview(value)) is (len(first) == len(frame))
    if len(first) < len(frame):
        assert client.next_event() is None
        client.receive_data(memoryview(frame[len(first) :]))
        assert client.next_event() == PayloadReceived(id=number)
    assert client.next_event() is None
    assert value == b"\1\2\3\4"


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 30, 31, 200])
@pytest.mark.parametrize("following", [None, "prod/\x90secrets\x90"])
def test_page_is_packed_as_the_codec_packs_it(count: int, following: str | None) -> None:
    """In pieces, to the byte; whatever its texts are."""
    infos = [
        SecretInfo(path=f"secrets/{number}", version=number + 1, created=number, labels={"secrets": "\x90"})
        for number in range(count)
    ]
    pieces = [
        pack_entries(infos[first : first + ENTRIES_AT_ONCE]) for first in range(0, count, ENTRIES_AT_ONCE)
    ]
    page = pack_page(SecretListResult(secrets=(), next=following), "secrets", count, pieces)
    assert page == pack_result(SecretListResult(secrets=tuple(infos), next=following))


@given(latest=st.integers(0, 2**31 - 1), deleted=st.none() | st.integers(0, 2**40))
def test_history_is_packed_as_the_codec_packs_it(latest: int, deleted: int | None) -> None:
    """Numbers before its array take nothing away."""
    info = SecretVersionInfo(version=1, created=1)
    empty = SecretHistoryResult(latest=latest, deleted=deleted, versions=())
    packed = pack_page(empty, "versions", 1, [pack_entries([info])])
    assert packed == pack_result(SecretHistoryResult(latest=latest, deleted=deleted, versions=(info,)))
