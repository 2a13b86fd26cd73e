"""What the tests of the wire share: drivers that feed bytes in pieces, slow obvious models, and strategies.

- A driver turns a stream of pieces into a list of what came out, and never looks inside.
- A model is written from the rules alone, knows no increments, and is compared with the real thing.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from keyholt_protocol.errors import RemoteProtocolError
from keyholt_protocol.events import PayloadReceived, RequestReceived, ResponseReceived
from keyholt_protocol.framing import FrameDecoder
from keyholt_protocol.limits import MAX_ENTRIES, MAX_PAGE, MAX_PAYLOAD, MAX_REQUEST_HEADER
from keyholt_protocol.server_connection import ServerConnection

__all__ = [
    "RefusedError",
    "bytewise",
    "decode_frames",
    "decode_model",
    "frame",
    "frames_model",
    "greeted_server",
    "messages_of",
    "names",
    "paths",
    "read_events",
    "split_at",
    "wholly",
]

Pieces = Callable[[bytes], Iterable[bytes]]


def wholly(data: bytes) -> list[bytes]:
    """All at once."""
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    """One byte at a time."""
    return [data[i : i + 1] for i in range(len(data))]


def split_at(cuts: Iterable[int]) -> Pieces:
    """A splitter at the given places, taken modulo the length."""

    def split(data: bytes) -> list[bytes]:
        places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
        return [data[a:b] for a, b in itertools.pairwise(places)]

    return split


def frame(header: bytes, payload: bytes = b"") -> bytes:
    """A frame built from the layout, not by the code under test."""
    return struct.pack(">II", len(header), len(payload)) + header + payload


def decode_frames(
    pieces: Iterable[bytes], make: Callable[[int], FrameDecoder] = FrameDecoder, *, direct: bool = False
) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Every whole frame in the pieces, and whether a rule was broken.

    ``direct`` receives payloads straight into their memory where the decoder offers it, as the agent does.
    """
    decoder, frames, header, target = make(MAX_REQUEST_HEADER), list[tuple[bytes, bytes]](), None, bytearray()
    for piece in pieces:
        data = piece
        if direct and (room := decoder.payload_room()) is not None:
            size = min(len(room), len(data))
            room[:size] = data[:size]
            decoder.payload_received(size)
            data = data[size:]
        buffer = bytearray(data)
        decoder.feed(memoryview(buffer))
        while True:
            if header is not None:
                if not decoder.payload_done():
                    break
                frames.append((header, bytes(target)))
                header = None
            try:
                found = decoder.next_header()
            except RemoteProtocolError:
                return frames, True
            if found is None:
                break
            header, target = bytes(found[0]), bytearray(found[1])
            if target:
                decoder.accept_payload(memoryview(target))
        buffer[:] = b"\xaa" * len(buffer)  # what was lent is ours again: nothing may still point to it
    return frames, False


def frames_model(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """What ``decode_frames`` must find: the layout read with whole bytes at hand."""
    frames = list[tuple[bytes, bytes]]()
    while len(data) >= 8:
        header_size = int.from_bytes(data[:4], "big")
        payload_size = int.from_bytes(data[4:8], "big")
        if header_size == 0 or header_size > MAX_REQUEST_HEADER or payload_size > MAX_PAYLOAD:
            return frames, True
        if len(data) < 8 + header_size + payload_size:
            break
        frames.append((data[8 : 8 + header_size], data[8 + header_size :][:payload_size]))
        data = data[8 + header_size + payload_size :]
    return frames, False


Event = RequestReceived | ResponseReceived | PayloadReceived


def read_events(
    connection: Any, pieces: Iterable[bytes], into: list[tuple[Event, bytes]] | None = None
) -> list[tuple[Event, bytes]]:
    """Every event of a connection, a payload's with its bytes; those before an error are in ``into``."""
    events: list[tuple[Event, bytes]] = [] if into is None else into
    target = bytearray()
    for piece in pieces:
        buffer = bytearray(piece)
        connection.receive_data(memoryview(buffer))
        while (event := connection.next_event()) is not None:
            if isinstance(event, PayloadReceived):
                events.append((event, bytes(target)))
                continue
            events.append((event, b""))
            if event.payload_size:
                target = bytearray(event.payload_size)
                connection.accept_payload(memoryview(target))
        buffer[:] = b"\xaa" * len(buffer)
    return events


def greeted_server() -> ServerConnection:
    """A server connection that has answered ``session.hello``."""
    server = ServerConnection()
    hello = b"\x83\xa2id\x01\xa2op\xadsession.hello\xa4args\x81\xa7version\x01"
    read_events(server, [frame(hello)])
    server.send_result(1, {})
    return server


# a model of the header's encoding


class RefusedError(Exception):
    """The model refuses the bytes."""


def decode_model(data: bytes) -> dict[str, object]:
    """The header that ``data`` encodes, by the msgpack specification and the rules of the wire."""
    value, rest = _value(data)
    if rest or not isinstance(value, dict):
        raise RefusedError
    return value


def _take(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise RefusedError
    return data[:size], data[size:]


_NUMBERS = {
    0xCA: ">f", 0xCB: ">d",
    0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_LENGTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


def _value(data: bytes) -> tuple[object, bytes]:
    (tag,), data = _take(data, 1)
    if tag <= 0x7F:
        return tag, data
    if tag >= 0xE0:
        return tag - 0x100, data
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag], data
    if tag in _NUMBERS:
        raw, data = _take(data, struct.calcsize(_NUMBERS[tag]))
        return struct.unpack(_NUMBERS[tag], raw)[0], data
    if tag == 0xC4 and data[:1] == b"\0":
        return b"", data[1:]  # decoded, but no field takes it
    if tag <= 0x8F:
        return _map(tag & 15, data)
    if tag <= 0x9F:
        return _array(tag & 15, data)
    if tag <= 0xBF:
        return _text(tag & 31, data)
    if tag not in _LENGTHS:
        raise RefusedError  # bin, ext, 0xc1
    raw, data = _take(data, _LENGTHS[tag])
    size = int.from_bytes(raw, "big")
    return (_text if tag <= 0xDB else _array if tag <= 0xDD else _map)(size, data)


def _text(size: int, data: bytes) -> tuple[object, bytes]:
    raw, data = _take(data, size)
    try:
        return raw.decode(), data
    except UnicodeDecodeError:
        raise RefusedError from None


def _array(size: int, data: bytes) -> tuple[object, bytes]:
    if size > MAX_ENTRIES:
        raise RefusedError
    items = list[object]()
    for _ in range(size):
        item, data = _value(data)
        items.append(item)
    return items, data


def _map(size: int, data: bytes) -> tuple[object, bytes]:
    if size > MAX_ENTRIES:
        raise RefusedError
    entries = dict[str, object]()
    for _ in range(size):
        key, data = _value(data)
        if not isinstance(key, str) or key in entries:
            raise RefusedError
        entries[key], data = _value(data)
    return entries, data


# strategies

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
_segments = st.one_of(
    st.from_regex(r"[A-Za-z0-9_@+=,~-][A-Za-z0-9._@:+=,~-]{0,20}", fullmatch=True),
    st.sampled_from(["é", "日本", "пароль", "...", ".env", "a b", "c:d", "x%y"]),
)
paths = st.lists(_segments, min_size=1, max_size=6).map("/".join)
_labels = st.dictionaries(names, st.sampled_from(["", "x", "ünï", "a b\u3042"]), max_size=4)
_integers = st.integers(1, 2**31 - 1)
_SPECIAL: Mapping[str, st.SearchStrategy[Any]] = {
    "slot": names, "name": names, "path": paths, "to": paths, "after": paths, "prefix": paths,
    "kind": st.just("passphrase"), "limit": st.integers(1, MAX_PAGE),
    "client": st.just("test 1"),
}  # fmt: skip


def messages_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Well-formed instances of a message type, found from its annotations."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{f.name: _values(f.name, hints[f.name]) for f in dataclasses.fields(cls)})


def _values(name: str, hint: Any) -> st.SearchStrategy[Any]:
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        return st.none() | _values(name, arguments[0])
    if name in _SPECIAL:
        return _SPECIAL[name]
    if dataclasses.is_dataclass(hint):
        return messages_of(typing.cast("type[Any]", hint))
    if typing.get_origin(hint) is tuple:
        return st.lists(_values("", arguments[0]), max_size=3).map(tuple)
    if typing.get_origin(hint) is Mapping:
        return _labels
    return {str: st.text(max_size=20), int: _integers, bool: st.booleans()}[hint]
