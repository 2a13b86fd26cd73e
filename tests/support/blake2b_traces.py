"""What keyed BLAKE2b (RFC 7693) makes of its key: the state with it taken in, from which hashes follow."""

from __future__ import annotations

import struct
from math import isqrt
from typing import Final

__all__ = ["blake2b_state", "blake2b_traces"]

_MASK: Final = 2**64 - 1
_ROUNDS: Final = 12
_BLOCK: Final = 128

_INITIAL: Final = tuple(isqrt(prime << 128) & _MASK for prime in (2, 3, 5, 7, 11, 13, 17, 19))
"""The first 64 bits of the fractional parts of their square roots (2.6)."""

_SCHEDULE: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
"""2.7."""

_COLUMNS_AND_DIAGONALS: Final = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def blake2b_traces(name: str, key: bytes, digest_size: int = 32) -> dict[str, bytes]:
    """The state once the key is taken in, as it lies in memory and in registers."""
    return {f"BLAKE2b state of {name}": struct.pack("<8Q", *blake2b_state(key, digest_size))}


def blake2b_state(key: bytes, digest_size: int) -> tuple[int, ...]:
    """The state after the block of the key, of a message that goes on (3.3)."""
    first, *others = _INITIAL
    start = (first ^ 0x01010000 ^ len(key) << 8 ^ digest_size, *others)
    return compressed(start, key.ljust(_BLOCK, b"\0"), _BLOCK, last=False)


def compressed(state: tuple[int, ...], block: bytes, count: int, *, last: bool) -> tuple[int, ...]:
    """The state after one more block, ``count`` bytes into the message (3.2)."""
    words = struct.unpack("<16Q", block)
    v = [*state, *_INITIAL]
    v[12] ^= count
    v[14] ^= _MASK if last else 0
    for number in range(_ROUNDS):
        schedule = _SCHEDULE[number % 10]
        for index, places in enumerate(_COLUMNS_AND_DIAGONALS):
            _mix(v, places, words[schedule[2 * index]], words[schedule[2 * index + 1]])
    return tuple(before ^ one ^ other for before, one, other in zip(state, v[:8], v[8:], strict=True))


def _mix(v: list[int], places: tuple[int, int, int, int], x: int, y: int) -> None:
    """3.1."""
    a, b, c, d = places
    for word, turn_d, turn_b in ((x, 32, 24), (y, 16, 63)):
        v[a] = v[a] + v[b] + word & _MASK
        v[d] = _turn(v[d] ^ v[a], turn_d)
        v[c] = v[c] + v[d] & _MASK
        v[b] = _turn(v[b] ^ v[c], turn_b)


def _turn(value: int, by: int) -> int:
    return (value >> by | value << (64 - by)) & _MASK
