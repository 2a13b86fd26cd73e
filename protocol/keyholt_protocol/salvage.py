"""What can be told of a request's header without building anything of it: how much it is, and its id.

- How much it is, is told before it is decoded: what a peer can make the agent build is bounded by it.
- The id is told where the codec refuses the rest: while a request can be told by it, it ends nothing else.
- The header is walked by the lengths that msgpack's formats announce; nothing of it is built.
- The walk is short, whatever is announced: nobody can have the agent walk for long.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from keyholt_protocol.codec import as_integer
from keyholt_protocol.errors import TooLargeError
from keyholt_protocol.limits import MAX_BEFORE_ID, MAX_REQUEST_CONTAINERS, MAX_REQUEST_VALUES

__all__ = ["check_extent", "readable_id"]

Header = memoryview | bytearray | bytes

_ID_KEYS: Final = frozenset({b"\xa2id", b"\xd9\x02id", b"\xda\x00\x02id", b"\xdb\x00\x00\x00\x02id"})
"""The text ``id`` in each format that it may be written in."""

_MOST_IN_ONE_BYTE: Final = 0x7F
"""The largest number that is its own format. Below zero are others, and none of those is an id."""

_NUMBERS: Final = dict(zip(range(0xCA, 0xD4), (f">{code}" for code in "fdBHIQbhiq"), strict=True))
"""The formats of numbers, as ``struct`` has them."""

_MAPS: Final = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])


class _Format(NamedTuple):
    """What follows the first byte of a value.

    Attributes:
        width: bytes of a count, which come first.
        each: bytes for each that it counts.
        size: further bytes.
        values: values that are its entries.
        values_each: and further ones, for each that the count counts.
    """

    width: int = 0
    each: int = 0
    size: int = 0
    values: int = 0
    values_each: int = 0


_FORMATS: Final = {
    **dict.fromkeys([*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3], _Format()),
    **{0x80 + count: _Format(values=2 * count) for count in range(16)},
    **{0x90 + count: _Format(values=count) for count in range(16)},
    **{0xA0 + size: _Format(size=size) for size in range(32)},
    **{first: _Format(size=struct.calcsize(layout)) for first, layout in _NUMBERS.items()},
    **{0xD4 + power: _Format(size=1 + 2**power) for power in range(5)},  # extensions, with their type
    **{0xC4 + power: _Format(width=2**power, each=1) for power in range(3)},  # byte strings
    **{0xC7 + power: _Format(width=2**power, each=1, size=1) for power in range(3)},  # extensions
    **{0xD9 + power: _Format(width=2**power, each=1) for power in range(3)},  # text
    **{0xDC + power: _Format(width=2 + 2 * power, values_each=1) for power in range(2)},  # arrays
    **{0xDE + power: _Format(width=2 + 2 * power, values_each=2) for power in range(2)},  # maps
}
"""By the first byte: all of msgpack, which leaves 0xc1 alone without a meaning."""


_SPANS: Final = tuple(
    0 if form is None or form.width else 1 + form.size for form in map(_FORMATS.get, range(256))
)
"""By the first byte: bytes of a value, without its entries; 0 where a length says it, or the byte is none."""

_INSIDE: Final = tuple(form.values if form else 0 for form in map(_FORMATS.get, range(256)))
"""By the first byte: the entries that a value has by it."""

_CONTAINERS: Final = frozenset([*range(0x80, 0xA0), *range(0xDC, 0xE0)])


_CONTAINER_BYTES: Final = bytes(_CONTAINERS)

_MAP_0: Final = 0x80
"""The first byte of a map of none; below it are small numbers."""

_TEXT_0: Final = 0xA0
_NIL: Final = 0xC0
"""The first byte of a text of none, and of nil: between them are short texts."""


def check_extent(header: bytes) -> None:
    """Hold the number of a header's values against the limits, in one that is longer than their number those
    that are announced and not there too.

    What is no msgpack is the codec's to refuse: the walk ends there.

    Raises:
        TooLargeError: says which limit.
    """
    at, end, missing, seen, containers = 0, len(header), 1, 0, 0
    # Nearly all are so short that they cannot have more values, and have not even as many bytes that could
    # begin maps and arrays, whatever they are a part of.
    if end <= MAX_REQUEST_VALUES and _most_containers(header) <= MAX_REQUEST_CONTAINERS:
        return
    while missing and at < end:
        first = header[at]
        missing -= 1
        seen += 1
        if _TEXT_0 <= first < _NIL:  # short text, as nearly all
            at += first - _TEXT_0 + 1
        elif first < _MAP_0:  # a small number
            at += 1
        elif first in _CONTAINERS:
            form = _FORMATS[first]
            count = int.from_bytes(header[at + 1 : at + 1 + form.width], "big")
            at += 1 + form.width
            missing += form.values + form.values_each * count
            containers += 1
            if containers > MAX_REQUEST_CONTAINERS:
                raise _too_large("maps and arrays", MAX_REQUEST_CONTAINERS)
            if seen + missing > MAX_REQUEST_VALUES:
                raise _too_large("values", MAX_REQUEST_VALUES)
        elif first in _FORMATS:
            form = _FORMATS[first]
            count = int.from_bytes(header[at + 1 : at + 1 + form.width], "big")
            at += 1 + form.width + form.size + form.each * count
        else:
            return


def _most_containers(header: bytes) -> int:
    return len(header) - len(header.translate(None, _CONTAINER_BYTES))


def _too_large(what: str, limit: int) -> TooLargeError:
    return TooLargeError(
        f"the header has more than {limit} {what}; send less in one request",
        details={"field": "header", "limit": limit},
    )


class _LostError(Exception):
    """The bytes end too early, or begin nothing, or are too many values."""


def readable_id(header: Header) -> int | None:
    """The value of a map's first `id`, if it is an integer, and all before it is msgpack and little."""
    walk = _Walk(header)
    try:
        entries = walk.step() // 2
        if header[0] not in _MAPS:
            return None
        for _ in range(entries):
            key = walk.at
            walk.pass_value()
            if bytes(header[key : walk.at]) in _ID_KEYS:
                return _integer(header, walk)
            walk.pass_value()
    except _LostError:
        pass
    return None


def _integer(header: Header, walk: _Walk) -> int | None:
    at = walk.at
    walk.step()  # so that it is known to be whole
    first = header[at]
    if first in _NUMBERS:
        return as_integer(struct.unpack_from(_NUMBERS[first], header, at + 1)[0])
    return first if first <= _MOST_IN_ONE_BYTE else None


class _Walk:
    """Goes along a header, one value at a time.

    Attributes:
        at: where it has come to.
    """

    def __init__(self, header: Header) -> None:
        self.at = 0
        self._header = header
        self._left = MAX_BEFORE_ID + 3  # with the map, the key and the id themselves

    def step(self) -> int:
        """Pass one value, but not what is in it; gives how many values are its entries."""
        header, at = self._header, self.at
        if at < len(header) and self._left and _SPANS[header[at]]:
            self.at = at + _SPANS[header[at]]
            self._left -= 1
            if self.at > len(header):
                raise _LostError
            return _INSIDE[header[at]]
        form = _FORMATS.get(header[at]) if at < len(header) and self._left else None
        if form is None:
            raise _LostError
        count = int.from_bytes(header[at + 1 : at + 1 + form.width], "big")
        self.at = at + 1 + form.width + form.each * count + form.size
        self._left -= 1
        if self.at > len(header):
            raise _LostError
        return form.values + form.values_each * count

    def pass_value(self) -> None:
        """Pass one value, with everything in it."""
        missing = 1
        while missing:
            missing += self.step() - 1
