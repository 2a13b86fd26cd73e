"""What is used of libsodium: the same as other libraries give, and what is said if it cannot be had."""

from __future__ import annotations

import hmac
import importlib.machinery
import importlib.util
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyholt_agent.keys import sodium
from keyholt_protocol.errors import InternalError

if TYPE_CHECKING:
    from pathlib import Path

    from keyholt_agent.memory import Arena, LockedBuffer

KEY = bytes(range(32))

arena_per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def locked(arena: Arena, data: bytes) -> LockedBuffer:
    """The bytes in locked memory."""
    buffer = arena.allocate(len(data))
    buffer.view[:] = data
    return buffer


@given(private=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32))
@arena_per_example
def test_x25519(arena: Arena, private: bytes, other: bytes) -> None:
    """Public key and shared secret of any keys are those of another library."""
    mine, theirs = X25519PrivateKey.from_private_bytes(private), X25519PrivateKey.from_private_bytes(other)
    point = theirs.public_key().public_bytes_raw()
    with locked(arena, private) as key, arena.allocate(32) as shared:
        assert sodium.x25519_base(key) == mine.public_key().public_bytes_raw()
        assert sodium.x25519(key, point, shared)
        assert bytes(shared.view) == mine.exchange(X25519PublicKey.from_public_bytes(point))


@given(key=st.binary(max_size=100), parts=st.lists(st.tuples(st.binary(max_size=200), st.booleans())))
@arena_per_example
def test_hmac(arena: Arena, key: bytes, parts: list[tuple[bytes, bool]]) -> None:
    """HMAC of all parts together, with whatever of it in locked memory."""
    message = tuple(locked(arena, data) if secret else data for data, secret in parts)
    with arena.allocate(32) as public, arena.allocate(32) as secret, locked(arena, key) as locked_key:
        sodium.hmac_sha256(arena, key, message, public)
        sodium.hmac_sha256(arena, locked_key, message, secret)
        expected = hmac.digest(key, b"".join(data for data, _ in parts), "sha256")
        assert bytes(public.view) == bytes(secret.view) == expected
    for part in message:
        if not isinstance(part, bytes):
            part.release()


@given(
    plaintext=st.binary(max_size=300),
    nonce=st.binary(min_size=12, max_size=12),
    associated=st.binary(max_size=50),
)
@arena_per_example
def test_chacha20poly1305(arena: Arena, plaintext: bytes, nonce: bytes, associated: bytes) -> None:
    """Ciphertext, tag and plaintext of another library; whatever is changed leaves zeroes."""
    expected = ChaCha20Poly1305(KEY).encrypt(nonce, plaintext, associated)
    with (
        locked(arena, KEY) as key,
        locked(arena, nonce) as locked_nonce,
        locked(arena, plaintext) as clear,
        locked(arena, b"\xa5" * len(plaintext)) as target,
    ):
        assert sodium.chacha20poly1305_encrypt(key, locked_nonce, clear, associated) == expected
        assert sodium.chacha20poly1305_decrypt(key, locked_nonce, expected, associated, target)
        assert bytes(target.view) == plaintext
        damaged = expected[:-1] + bytes([expected[-1] ^ 1])
        assert not sodium.chacha20poly1305_decrypt(key, locked_nonce, damaged, associated, target)
        assert not any(target.view)


@pytest.mark.parametrize("size", [0, 15, 47, 49])
def test_target_of_another_length_is_refused(arena: Arena, size: int) -> None:
    """The library would write beyond it."""
    with (
        locked(arena, KEY) as key,
        locked(arena, bytes(12)) as nonce,
        arena.allocate(32) as target,
        pytest.raises(InternalError),
    ):
        sodium.chacha20poly1305_decrypt(key, nonce, bytes(size), b"", target)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_point_of_another_length_is_refused(arena: Arena, size: int) -> None:
    """The library would read beyond it."""
    with locked(arena, KEY) as key, arena.allocate(32) as target, pytest.raises(InternalError):
        sodium.x25519(key, bytes(size), target)


@pytest.mark.parametrize("state", ["absent", "of another kind", "no library"])
def test_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    """Without PyNaCl, and with one that does not let its libsodium be used, the error says so."""
    found = importlib.machinery.ModuleSpec("nacl._sodium", None)
    if state == "of another kind":
        other = importlib.util.find_spec("msgpack._cmsgpack")
        assert other is not None
        found.origin = other.origin
    elif state == "no library":
        found.origin = str(tmp_path / "nothing")
    monkeypatch.setattr(sodium, "find_spec", lambda _: found)
    load_anew = sodium._library.__wrapped__
    with pytest.raises(sodium.SodiumError, match="PyNaCl"):
        load_anew()
