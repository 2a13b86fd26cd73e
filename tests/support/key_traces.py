"""What operations make of a key: everything that does for the key, or from which it follows.

- all fifteen round keys of AES-256, of which any two in a row give the rest (FIPS 197, 5.2);
- what GCM hashes with (NIST SP 800-38D, 7.1);
- the states of HMAC-SHA-256 with its key taken in (RFC 2104, 4).
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

__all__ = ["gcm_traces", "hmac_traces", "round_keys", "sha256_state"]


def gcm_traces(name: str, key: bytes) -> dict[str, bytes]:
    """What AES-256-GCM makes of a key, each by a name."""
    hash_key = Cipher(AES256(key), ECB()).encryptor().update(bytes(16))
    return {
        f"round keys of {name}": round_keys(key)[len(key) :],
        f"hash key of {name}": hash_key,
        f"hash key of {name}, turned around": hash_key[::-1],
    }


def hmac_traces(name: str, key: bytes) -> dict[str, bytes]:
    """The key as HMAC pads it, and the states after; in the order of FIPS 180-4 and in that of SHA-NI."""
    found: dict[str, bytes] = {}
    for side, pad in (("inner", 0x36), ("outer", 0x5C)):
        block = bytes(byte ^ pad for byte in key.ljust(64, b"\0"))
        a, b, c, d, e, f, g, h = state = sha256_state(block)
        found[f"{name}, {side}"] = block[: len(key)]
        found[f"{name}, {side} state"] = struct.pack("<8I", *state)
        found[f"{name}, {side} state for SHA-NI"] = struct.pack("<8I", f, e, b, a, h, g, d, c)
    return found


def round_keys(key: bytes) -> bytes:
    """All fifteen round keys of AES-256, 240 bytes; the first two are the key (FIPS 197, 5.2)."""
    words = [key[at : at + 4] for at in range(0, 32, 4)]
    constant = 1
    for index in range(8, 60):
        word = words[-1]
        if index % 8 == 0:
            word = bytes(_SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes((word[0] ^ constant,)) + word[1:]
            constant = _double(constant)
        elif index % 8 == 4:
            word = bytes(_SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(words[-8], word, strict=True)))
    return b"".join(words)


def sha256_state(block: bytes, before: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """SHA-256's state after one more block, of 64 bytes (FIPS 180-4, 6.2.2)."""
    words = list(struct.unpack(">16I", block))
    for t in range(16, 64):
        s0 = _turn(words[t - 15], 7) ^ _turn(words[t - 15], 18) ^ words[t - 15] >> 3
        s1 = _turn(words[t - 2], 17) ^ _turn(words[t - 2], 19) ^ words[t - 2] >> 10
        words.append((words[t - 16] + s0 + words[t - 7] + s1) & 0xFFFFFFFF)
    start = _INITIAL if before is None else before
    a, b, c, d, e, f, g, h = start
    for constant, word in zip(_CONSTANTS, words, strict=True):
        first = h + (_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + (e & f ^ ~e & g) + constant + word
        second = (_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (first + second) & 0xFFFFFFFF, a, b, c, (d + first) & 0xFFFFFFFF, e, f, g
    return tuple(
        (one + other) & 0xFFFFFFFF for one, other in zip(start, (a, b, c, d, e, f, g, h), strict=True)
    )


def _double(value: int) -> int:
    """Times x in the field of AES (FIPS 197, 4.2.1)."""
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _substitution() -> bytes:
    """The S-box (FIPS 197, 5.1.1): the inverse in the field, then an affine map."""
    powers = [1]
    while len(powers) < 255:  # 3 generates the field
        powers.append(powers[-1] ^ _double(powers[-1]))
    inverse = {one: powers[-index % 255] for index, one in enumerate(powers)} | {0: 0}
    turned = [
        [inverse[value]] + [(inverse[value] << n | inverse[value] >> (8 - n)) & 0xFF for n in range(1, 5)]
        for value in range(256)
    ]
    return bytes(a ^ b ^ c ^ d ^ e ^ 0x63 for a, b, c, d, e in turned)


_SBOX: Final = _substitution()


def _turn(value: int, by: int) -> int:
    return (value >> by | value << (32 - by)) & 0xFFFFFFFF


def _roots(count: int, power: int) -> tuple[int, ...]:
    """The first 32 bits of the fractional parts of the square or cube roots of the first primes."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, n))][:count]
    return tuple(_whole_root(prime << (32 * power), power) & 0xFFFFFFFF for prime in primes)


def _whole_root(value: int, power: int) -> int:
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**power <= value else (low, middle)
    return low


_INITIAL: Final = _roots(8, 2)
_CONSTANTS: Final = _roots(64, 3)
