"""The state that is searched for is the one that hashes are made from."""

from __future__ import annotations

import hashlib
import os
import struct

import pytest

from tests.support.blake2b_traces import blake2b_traces, compressed


@pytest.mark.parametrize("size", [1, 100, 128])
def test_from_the_state_comes_the_hash(size: int) -> None:
    """Of a message of one block, without the key."""
    key, message = os.urandom(32), os.urandom(size)
    (state,) = blake2b_traces("k", key).values()
    block = message.ljust(128, b"\0")
    last = compressed(struct.unpack("<8Q", state), block, 128 + size, last=True)
    digest = hashlib.blake2b(message, key=key, digest_size=32).digest()
    assert struct.pack("<8Q", *last)[:32] == digest
