"""What a search for traces of keys looks for is what the standards say, by their own examples."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.key_traces import gcm_traces, hmac_traces, round_keys, sha256_state


def test_round_keys_are_those_of_the_standard() -> None:
    """FIPS 197, A.3: the key schedule of its example key."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    schedule = round_keys(key)
    assert len(schedule) == 240
    assert schedule.startswith(key + bytes.fromhex("9ba35411"))
    assert schedule.endswith(bytes.fromhex("706c631e"))


def test_hash_key_makes_the_tag() -> None:
    """With an empty message and 16 bytes beside it the tag is their product with the hash key, twice, and a
    block that depends on the nonce: of two messages, only the hash key remains.
    """
    key, nonce, one, other = os.urandom(32), bytes(12), os.urandom(16), os.urandom(16)
    tags = [int.from_bytes(AESGCM(key).encrypt(nonce, b"", text), "big") for text in (one, other)]
    hash_key = int.from_bytes(gcm_traces("k", key)["hash key of k"], "big")
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    assert times(times(difference, hash_key), hash_key) == tags[0] ^ tags[1]


def times(one: int, other: int) -> int:
    """Multiplication in the field of GCM (NIST SP 800-38D, algorithm 1)."""
    product = 0
    for bit in range(127, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (0xE1 << 120 if other & 1 else 0)
    return product


def test_states_of_hmac_make_the_mac() -> None:
    """From the two states alone, without the key, comes the MAC of a message."""
    key, message = os.urandom(32), os.urandom(20)
    traces = hmac_traces("k", key)
    inner = continued(traces["k, inner state"], message)
    assert continued(traces["k, outer state"], inner) == hmac.digest(key, message, "sha256")
    assert bytes(byte ^ 0x36 for byte in traces["k, inner"]) == key


def continued(state: bytes, message: bytes) -> bytes:
    """SHA-256 from a state on, of one more block, the second."""
    block = message + b"\x80" + bytes(55 - len(message)) + struct.pack(">Q", 8 * (64 + len(message)))
    return struct.pack(">8I", *sha256_state(block, struct.unpack("<8I", state)))


def test_state_of_sha256() -> None:
    """After the only block it is the digest."""
    block = b"abc\x80" + bytes(52) + struct.pack(">Q", 24)
    assert struct.pack(">8I", *sha256_state(block)) == hashlib.sha256(b"abc").digest()
