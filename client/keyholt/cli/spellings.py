"""How a value may be written in a program's output: as it is, in base64, percent-encoded, escaped.

- Each spelling is made in one ``bytearray`` of its final size, which the caller wipes; nothing of a value
  passes through ``bytes`` or ``str``.
- Base64 is three spellings: a value begins at any of the three places of a group of three bytes. Characters
  that depend on what stands beside the value are not part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["spellings"]

Table = Sequence[bytes]

_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ALPHABETS: Final = (_DIGITS + b"+/", _DIGITS + b"-_")
"""RFC 4648, sections 4 and 5."""

_UNRESERVED: Final = frozenset(_DIGITS + b"-._~")
"""RFC 3986, section 2.3: what is never percent-encoded."""

_CONTROLS: Final = {8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r"}
_NEWLINE: Final = 0x0A


def _table(changes: dict[int, bytes]) -> Table:
    """How each byte is written: as it is, but for some."""
    return [changes.get(byte, bytes((byte,))) for byte in range(256)]


_PERCENT: Final = {byte: b"%%%02X" % byte for byte in range(256) if byte not in _UNRESERVED}
_JSON: Final = {byte: _CONTROLS.get(byte, b"\\u%04x" % byte) for byte in range(32)} | {
    ord('"'): b'\\"',
    ord("\\"): b"\\\\",
}
_TABLES: Final = tuple(
    map(
        _table,
        (
            {},
            {_NEWLINE: b"\r\n"},  # what a terminal makes of it
            _PERCENT,
            {byte: written.lower() for byte, written in _PERCENT.items()},
            _PERCENT | {ord(" "): b"+"},  # as forms are sent
            _PERCENT | {ord("/"): b"/"},  # as paths are
            _JSON,
            _JSON | {ord("/"): b"\\/"},
        ),
    )
)


def spellings(value: bytearray) -> list[bytearray]:
    """The spellings of a value that differ from each other, each the caller's to wipe."""
    made = [_spelt(value, table) for table in _TABLES]
    made += [_base64(value, before, letters) for letters in _ALPHABETS for before in range(3)]
    different: list[bytearray] = []
    for spelling in made:
        if spelling in different:
            spelling[:] = bytes(len(spelling))
        else:
            different.append(spelling)
    return different


def _spelt(value: bytearray, table: Table) -> bytearray:
    result = bytearray(sum(len(table[byte]) for byte in value))
    at = 0
    for byte in value:
        written = table[byte]
        result[at : at + len(written)] = written
        at += len(written)
    return result


def _base64(value: bytearray, before: int, letters: bytes) -> bytearray:
    """The characters that say something of the value alone, if ``before`` bytes stand before it in its first
    group of three.
    """
    first = -(-before * 8 // 6)
    result = bytearray((before + len(value)) * 8 // 6 - first)
    bits, held = (before * 8) % 6, 0  # of the first character, those of the byte before count as read
    skip = bits > 0
    at = 0
    for byte in value:
        held, bits = (held << 8 | byte) & 0xFFFF, bits + 8
        while bits >= 6:  # noqa: PLR2004  # the bits of a character
            bits -= 6
            if skip:
                skip = False
                continue
            result[at] = letters[held >> bits & 0x3F]
            at += 1
    return result
