"""Headers that no decoder may take, and the check that one is refused as what it is."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Final

import pytest

from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.limits import MAX_ENTRIES

Decode = Callable[[bytes], dict[str, object]]
HOSTILE: Final = {
    "empty": b"",
    "text": b"\xa1a",
    "array": b"\x90",
    "number": b"\x01",
    "nothing": b"\xc0",
    "never used": b"\xc1",
    "trailing byte": b"\x80\x00",
    "second map": b"\x80\x80",
    "truncated map": b"\x81\xa1a",
    "truncated text": b"\x81\xa1a\xa5abc",
    "truncated number": b"\x81\xa1a\xcd\x01",
    "duplicate key": b"\x82\xa1a\x01\xa1a\x02",
    "duplicate key in a map": b"\x81\xa1x\x82\xa1a\x01\xa1a\x01",
    "duplicate key in an array": b"\x81\xa1x\x91\x82\xa1a\x01\xa1a\x01",
    "duplicate key, written differently": b"\x82\xa1a\x01\xd9\x01a\x02",
    "duplicate key, long": b"\xde\x00\x03\xa1a\x01\xa1b\x01\xa1a\x01",
    "key number": b"\x81\x01\x01",
    "key true": b"\x81\xc3\x01",
    "key nothing": b"\x81\xc0\x01",
    "key float": b"\x81\xcb" + bytes(8) + b"\x01",
    "key empty bytes": b"\x81\xc4\x00\x01",
    "key bytes": b"\x81\xc4\x01a\x01",
    "key array": b"\x81\x90\x01",
    "key map": b"\x81\x80\x01",
    "bytes": b"\x81\xa1a\xc4\x01a",
    "bytes, announced huge": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "ext": b"\x81\xa1a\xd4\x05a",
    "ext of no bytes": b"\x81\xa1a\xc7\x00\x05",
    "timestamp": b"\x81\xa1a\xd6\xff\x00\x00\x00\x01",
    "timestamp of no bytes": b"\x81\xa1a\xc7\x00\xff",
    "ext, announced huge": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
    "surrogate": b"\x81\xa1a\xa3\xed\xa0\x80",
    "surrogate in a key": b"\x81\xa3\xed\xa0\x80\x01",
    "overlong": b"\x81\xa1a\xa2\xc0\x80",
    "cut character": b"\x81\xa1a\xa1\xc3",
    "beyond Unicode": b"\x81\xa1a\xa4\xf4\x90\x80\x80",
    "text, announced huge": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "array, announced huge": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "map, announced huge": b"\xdf\xff\xff\xff\xff",
    "one array element too many": b"\x81\xa1a\xdc\x01\x01" + bytes(MAX_ENTRIES + 1),
    "deep arrays": b"\x81\xa1a" + b"\x91" * 8_000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 2_700 + b"\xc0",
    "deep arrays announcing many": b"\x81\xa1a" + b"\xdc\x01\x00" * 2_700,
}


TOO_MANY: Final = {"array, announced huge", "map, announced huge", "one array element too many"}
Refusal: Final = (InvalidRequestError, TooLargeError)


def check_refused(decode: Decode, name: str, kind: Callable[[bytes], typing.Any] = bytes) -> None:
    """The bytes are refused as what they are, and the message does not repeat them."""
    with pytest.raises(Refusal) as caught:
        decode(kind(HOSTILE[name]))
    assert type(caught.value) is (TooLargeError if name in TOO_MANY else InvalidRequestError)
    assert caught.value.details["field"] == "header"
    assert len(str(caught.value)) < 100
