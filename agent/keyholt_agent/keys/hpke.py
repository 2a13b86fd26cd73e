"""HPKE (RFC 9180): what is encrypted to a public key, in base mode and in a single shot.

The one suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305: 0x0020, 0x0001 and 0x0003 of
sections 7.1 to 7.3. The names are those of the RFC, and each step says which one it is.

What must hold:

- Every secret on the way (private keys, the Diffie-Hellman result, what is extracted from it, key and nonce)
  lies in a block of the arena, and is zeroed before the function returns or raises.
- A public key or ``enc`` of low order, with which the result would be zeroes, is refused (section 7.1.4).
- What does not open leaves zeroes.

Base mode says nothing of who encrypted: whoever has the public key may have. A single shot has all that it
binds in ``info`` (section 8.1); ``aad`` is for the RFC's test vectors.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from keyholt_agent.keys.sodium import (
    HASH_SIZE,
    POINT_SIZE,
    TAG_SIZE,
    chacha20poly1305_decrypt,
    chacha20poly1305_encrypt,
    hmac_sha256,
    x25519,
    x25519_base,
)
from keyholt_agent.memory import LockedBuffer, wipe
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Generator

    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.memory import Arena

__all__ = ["ENC_SIZE", "KEY_SIZE", "OVERHEAD", "KeyPair", "derive_key_pair", "open_base", "seal_base"]

KEY_SIZE: Final = POINT_SIZE
"""Bytes of a public key, of a private key, and of what a private key is derived from (Npk, Nsk)."""

ENC_SIZE: Final = POINT_SIZE
"""Bytes of an encapsulated key (Nenc)."""

OVERHEAD: Final = TAG_SIZE
"""Bytes by which a ciphertext is longer than its plaintext (Nt)."""

_KEM: Final = b"KEM\x00\x20"
_HPKE: Final = b"HPKE\x00\x20\x00\x01\x00\x03"
"""``suite_id`` of section 4.1 and of section 5.1: they keep the hashes of one suite apart from all others."""

_BASE: Final = b"\x00"
"""``mode_base`` (section 5)."""

_NONCE_SIZE: Final = 12
"""Bytes (Nn)."""


class KeyPair(NamedTuple):
    """A private key, its owner's to release, and the public key that belongs to it."""

    private: LockedBuffer
    public: bytes


def derive_key_pair(arena: Arena, ikm: LockedBuffer) -> KeyPair:
    """The key pair that follows from 32 random bytes; the caller's to release.

    ``DeriveKeyPair`` of section 7.1.3.
    """
    private = arena.allocate(KEY_SIZE)
    try:
        with arena.allocate(HASH_SIZE) as prk:
            _labeled_extract(arena, b"", _KEM + b"dkp_prk", ikm, prk)
            _labeled_expand(arena, prk, _KEM + b"sk", b"", private)
        return KeyPair(private, x25519_base(private))
    except BaseException:
        private.release()
        raise


def seal_base(
    arena: Arena,
    randomness: Randomness,
    public_key: bytes,
    plaintext: LockedBuffer,
    *,
    info: bytes,
    aad: bytes = b"",
) -> tuple[bytes, bytes]:
    """The encapsulated key and the ciphertext of a plaintext for the owner of a public key.

    ``SealBase`` of section 6.1.

    Raises:
        IntegrityError: the public key is not one.
    """
    with arena.allocate(KEY_SIZE) as ikm, arena.allocate(KEY_SIZE) as dh:
        # Encap of section 4.1. GenerateKeyPair may be DeriveKeyPair of random bytes (section 4).
        randomness.fill(ikm)
        ephemeral, enc = derive_key_pair(arena, ikm)
        with ephemeral:
            if not x25519(ephemeral, public_key, dh):
                raise IntegrityError("a public key is of low order; restore a backup")
        with _key_schedule(arena, dh, enc + public_key, info) as (key, base_nonce):
            return enc, chacha20poly1305_encrypt(key, base_nonce, plaintext, aad)


def open_base(
    arena: Arena,
    recipient: KeyPair,
    enc: bytes,
    ciphertext: bytes,
    target: LockedBuffer,
    *,
    info: bytes,
    aad: bytes = b"",
) -> None:
    """Open what was encrypted to a key pair into a target of the plaintext's length.

    ``OpenBase`` of section 6.1.

    Raises:
        IntegrityError: it is not what was encrypted with this ``info``; ``target`` is all zeroes.
    """
    wipe(target.view)
    with arena.allocate(KEY_SIZE) as dh:
        # Decap of section 4.1.
        if not x25519(recipient.private, enc, dh):
            raise IntegrityError("an encapsulated key is of low order; restore a backup")
        with _key_schedule(arena, dh, enc + recipient.public, info) as (key, base_nonce):
            if not chacha20poly1305_decrypt(key, base_nonce, ciphertext, aad, target):
                raise IntegrityError


@contextmanager
def _key_schedule(
    arena: Arena, dh: LockedBuffer, kem_context: bytes, info: bytes
) -> Generator[tuple[LockedBuffer, LockedBuffer], None, None]:
    """The key and the nonce of the first and only message, for the length of a ``with``.

    ``ExtractAndExpand`` of section 4.1, then ``KeySchedule`` of section 5.1 with neither a pre-shared key nor
    an exporter. The nonce of message 0 is the base nonce itself (section 5.2).
    """
    with (
        arena.allocate(HASH_SIZE) as eae_prk,
        arena.allocate(HASH_SIZE) as shared_secret,
        arena.allocate(HASH_SIZE) as secret,
        arena.allocate(HASH_SIZE) as key,
        arena.allocate(HASH_SIZE) as base_nonce,
    ):
        _labeled_extract(arena, b"", _KEM + b"eae_prk", dh, eae_prk)
        _labeled_expand(arena, eae_prk, _KEM + b"shared_secret", kem_context, shared_secret)

        # Two hashes of what is public, by way of a buffer that has its own use later.
        context = _BASE
        for label, hashed in ((b"psk_id_hash", b""), (b"info_hash", info)):
            _labeled_extract(arena, b"", _HPKE + label, hashed, key)
            context += bytes(key.view)
        _labeled_extract(arena, shared_secret, _HPKE + b"secret", b"", secret)
        _labeled_expand(arena, secret, _HPKE + b"key", context, key)
        _labeled_expand(arena, secret, _HPKE + b"base_nonce", context, base_nonce, size=_NONCE_SIZE)
        yield key, base_nonce


def _labeled_extract(
    arena: Arena, salt: LockedBuffer | bytes, label: bytes, ikm: LockedBuffer | bytes, target: LockedBuffer
) -> None:
    """``LabeledExtract`` of section 4: HMAC with the salt as its key (RFC 5869, section 2.2).

    Args:
        label: of the RFC, the ``suite_id`` before it.
    """
    hmac_sha256(arena, salt, (b"HPKE-v1", label, ikm), target)


def _labeled_expand(
    arena: Arena, prk: LockedBuffer, label: bytes, info: bytes, target: LockedBuffer, *, size: int = HASH_SIZE
) -> None:
    """``LabeledExpand`` of section 4, for at most one hash, of which the first ``size`` bytes are meant.

    That is the first block of RFC 5869, section 2.3: HMAC of the labelled info and a byte of 1.

    Args:
        label: of the RFC, the ``suite_id`` before it.
    """
    hmac_sha256(arena, prk, (size.to_bytes(2, "big") + b"HPKE-v1" + label + info, b"\x01"), target)
