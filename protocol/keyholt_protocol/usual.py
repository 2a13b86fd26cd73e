"""The messages that the time of both sides goes into, in the bytes that are usually written for them.

Nearly every request is a fetch of a secret's newest version, and nearly every client writes it alike: a map
of ``id``, ``op`` and ``args`` in that order, each in msgpack's shortest form, with a path in ``args`` and
nothing else. These bytes are constant but for the number and the path, so they are compared instead of being
decoded, which takes a third of the time. The answer's ``result`` is the same each time, so it is packed once.
A client writes the one and reads the other likewise: its time is spent while nothing of it is in the
processor's caches, so that what it does not do counts twice.

- What is read or written here is what the codec and the registry would read or write, or nothing: whatever
  has another form, or is to be refused, is theirs to judge (``tests/protocol/test_usual.py`` holds one
  against the other).
- It is no second protocol: a client may write a request in any form of msgpack.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from keyholt_protocol.codec import pack_header, to_map
from keyholt_protocol.errors import KeyholtError, LocalProtocolError
from keyholt_protocol.limits import MAX_REQUEST_ID
from keyholt_protocol.messages import SecretGetRequest

__all__ = [
    "ENTRIES_AT_ONCE",
    "USUAL_FETCH",
    "PackedResult",
    "fetch_header",
    "pack_entries",
    "pack_page",
    "pack_result",
    "read_usual_answer",
    "read_usual_fetch",
    "result_header",
]

USUAL_FETCH: Final = "secret.get"
"""The operation that ``read_usual_fetch`` reads."""

_ID: Final = b"\x83\xa2id"
_TO_PATH: Final = b"\xa2op\xaasecret.get\xa4args\x81\xa4path"
_TO_RESULT: Final = b"\xa2ok\xc3\xa6result"

_LEAST_FORMAT: Final = 0x80
"""A number below this is one byte, itself."""

_NUMBER_SIZES: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
"""Bytes of the number that follows one of these."""

_TEXT_31: Final = 0xA0
"""A text of up to 31 bytes begins with this byte, its length added."""

_TEXT_255: Final = 0xD9
"""A text of up to 255 bytes: its length is the next byte."""

_TEXT_65535: Final = 0xDA
"""A text of up to 65,535 bytes: its length is the next two."""

_NO_ENTRIES: Final = b"\x90"
"""An array of none; of up to 15 entries begins with this byte, their number added."""

ENTRIES_AT_ONCE: Final = 15
"""Entries of an array whose head is one byte."""

_ARRAY: Final = b"\xdc"
"""An array of up to 65,535 entries: their number is the next two bytes."""

_LONGEST_SHORT: Final = 31
_LONGEST_MIDDLE: Final = 255


_NUMBER: Final = rb"([\x00-\x7f]|\xcc.|\xcd..|\xce....|\xcf........)"
_ANSWER: Final = re.compile(
    re.escape(_ID)
    + _NUMBER
    + re.escape(_TO_RESULT + b"\x82\xa7version")
    + _NUMBER
    + re.escape(b"\xa7created")
    + _NUMBER,
    re.DOTALL,
)
"""The header of an answer to a fetch or a write of a secret without labels and expiry."""


class PackedResult(bytes):
    """A result's map in its form on the wire; made by ``pack_result``, sent by ``send_result``."""

    __slots__ = ()


def pack_result(result: object) -> PackedResult:
    """A result message as it goes on the wire, to be sent any number of times."""
    return PackedResult(pack_header(to_map(result)))


def pack_entries(entries: Sequence[object]) -> bytes:
    """Entries of a page as they go on the wire, ``ENTRIES_AT_ONCE`` of them at most."""
    # Packed as an array of so few, whose head is one byte; with that of the map around it they are three.
    return pack_header({"": list(map(to_map, entries))})[3:]


def pack_page(page: object, field: str, count: int, entries: Sequence[bytes]) -> PackedResult:
    """A page as it goes on the wire, in the bytes in which the codec packs it, of entries packed beforehand.

    Args:
        page: the result message, its array ``field`` empty; before that come numbers only.
        count: how many entries there are.
        entries: of ``pack_entries``, all of them.
    """
    name = bytes((_TEXT_31 + len(field),)) + field.encode()
    before, empty, after = pack_header(to_map(page)).partition(name + _NO_ENTRIES)
    array = (
        bytes((_NO_ENTRIES[0] + count,)) if count <= ENTRIES_AT_ONCE else _ARRAY + count.to_bytes(2, "big")
    )
    return PackedResult(b"".join((before, empty[:-1], array, *entries, after)))


def result_header(request_id: int, result: PackedResult) -> bytes:
    """The header of a result, in the bytes in which the codec packs it."""
    return b"".join((_ID, _number(request_id), _TO_RESULT, result))


def read_usual_fetch(data: bytes) -> tuple[int, SecretGetRequest] | None:
    """The id and the request, where the header is a fetch of the usual form without a fault; else
    ``None``.
    """
    if not data.startswith(_ID):
        return None
    try:
        first, at = data[4], 5
        if first < _LEAST_FORMAT:  # it is the number
            request_id = first
        else:
            at += _NUMBER_SIZES[first]
            request_id = int.from_bytes(data[5:at], "big")
        if not 0 < request_id <= MAX_REQUEST_ID or not data.startswith(_TO_PATH, at):
            return None
        at += len(_TO_PATH)
        size = data[at] - _TEXT_31
        if data[at] == _TEXT_255:
            at += 1
            size = data[at]
        elif size > _LONGEST_SHORT:
            return None
        path = data[at + 1 :]
        return (request_id, SecretGetRequest(path=path.decode())) if len(path) == size else None
    except (LookupError, UnicodeDecodeError, KeyholtError):
        return None


def fetch_header(request_id: int, path: str) -> bytes:
    """The header of a usual fetch, in the bytes in which the codec packs it."""
    text = path.encode()
    size = len(text)
    if size <= _LONGEST_SHORT:
        head = (_TEXT_31 + size).to_bytes(1, "big")
    elif size <= _LONGEST_MIDDLE:
        head = bytes((_TEXT_255, size))
    else:
        head = bytes((_TEXT_65535,)) + size.to_bytes(2, "big")
    return b"".join((_ID, _number(request_id), _TO_PATH, head, text))


def read_usual_answer(data: bytes) -> tuple[int, dict[str, object]] | None:
    """The id and the result of an answer of the usual form to a fetch or a write; ``None`` for any other."""
    found = _ANSWER.fullmatch(data)
    if found is None:
        return None
    request_id, version, created = found.groups()
    return int.from_bytes(request_id[1:] or request_id, "big"), {
        "version": int.from_bytes(version[1:] or version, "big"),
        "created": int.from_bytes(created[1:] or created, "big"),
    }


def _number(value: int) -> bytes:
    """A number from 0 on, in msgpack's shortest form."""
    if value < _LEAST_FORMAT:
        return value.to_bytes(1, "big")
    for first, size in _NUMBER_SIZES.items():
        if value < 1 << 8 * size:
            return first.to_bytes(1, "big") + value.to_bytes(size, "big")
    raise LocalProtocolError("no id is as large as that")
