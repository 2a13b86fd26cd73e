"""libsodium over locked memory: X25519, HMAC-SHA256, ChaCha20-Poly1305 and BLAKE2b, and nothing else of it.

The library comes with PyNaCl, whose own functions take and give ``bytes``: copies in ordinary memory that
nobody can wipe. So its shared object is opened here a second time, for the functions of its C interface.

What must hold:

- A secret is a ``LockedBuffer``, read and written in place; ``bytes`` are public. libsodium takes no memory
  of its own for any of these functions (https://doc.libsodium.org/internals).
- What the functions leave in registers and on the stack is for ``memory.residue`` to clear, on the thread
  that called them (``tests/agent/keys/test_hpke_residue.py``).
- The agent loads it when it starts (``load``). Later, a lack of descriptors or another version in its place
  would meet whoever unlocks.

The functions take from one to sixty microseconds each, less than another thread may keep the interpreter's
lock for. So they are called without letting go of it.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from keyholt_protocol.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyholt_agent.memory import Arena, LockedBuffer

__all__ = [
    "HASH_SIZE",
    "POINT_SIZE",
    "TAG_SIZE",
    "SodiumError",
    "chacha20poly1305_decrypt",
    "chacha20poly1305_encrypt",
    "hmac_sha256",
    "load",
    "sum_of_blake2b",
    "x25519",
    "x25519_base",
]

POINT_SIZE: Final = 32
"""Bytes of an X25519 public key, private key and shared secret (RFC 7748, section 5)."""

HASH_SIZE: Final = 32
"""Bytes of SHA-256's output, and of BLAKE2b's as it is used here."""

TAG_SIZE: Final = 16
"""Bytes by which ChaCha20-Poly1305 makes longer what it encrypts (RFC 8439, section 2.8)."""

_HMAC_STATE: Final = 208
"""Bytes of ``crypto_auth_hmacsha256_state``."""

_P: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_LENGTH: Final = ctypes.c_ulonglong

_SIGNATURES: Final[dict[str, tuple[type, ...]]] = {
    "crypto_scalarmult": (_P, _P, _P),
    "crypto_scalarmult_base": (_P, _P),
    "crypto_generichash_blake2b": (_P, _SIZE, _P, _LENGTH, _P, _SIZE),
    "crypto_auth_hmacsha256_init": (_P, _P, _SIZE),
    "crypto_auth_hmacsha256_update": (_P, _P, _LENGTH),
    "crypto_auth_hmacsha256_final": (_P, _P),
    "crypto_aead_chacha20poly1305_ietf_encrypt": (_P, _P, _P, _LENGTH, _P, _LENGTH, _P, _P, _P),
    "crypto_aead_chacha20poly1305_ietf_decrypt": (_P, _P, _P, _P, _LENGTH, _P, _LENGTH, _P, _P),
}
"""The arguments of each function as its header has them; all give an ``int``."""


class SodiumError(Exception):
    """libsodium cannot be had; the message says why."""


def load() -> None:
    """Have the library ready. It is loaded once, whoever asks first.

    Raises:
        SodiumError: it cannot be had.
    """
    _library()


def x25519(private: LockedBuffer, point: bytes, target: LockedBuffer) -> bool:
    """Write the shared secret of a private key and somebody's public key.

    Returns:
        Whether there is one: False for a point of low order, with which it would be zeroes, whatever the
        private key (RFC 7748, section 6.1). ``target`` is of no use then.
    """
    if len(point) != POINT_SIZE:
        raise InternalError(f"a public key of {len(point)} bytes")
    return not _library().crypto_scalarmult(target.address, private.address, point)


def x25519_base(private: LockedBuffer) -> bytes:
    """The public key of a private one."""
    public = ctypes.create_string_buffer(POINT_SIZE)
    _library().crypto_scalarmult_base(public, private.address)
    return public.raw


def hmac_sha256(
    arena: Arena, key: LockedBuffer | bytes, message: tuple[LockedBuffer | bytes, ...], target: LockedBuffer
) -> None:
    """Write the HMAC-SHA256 (RFC 2104) of a message, given in parts, under a key."""
    library = _library()
    with arena.allocate(_HMAC_STATE) as state:
        library.crypto_auth_hmacsha256_init(state.address, _place(key), len(key))
        for part in message:
            library.crypto_auth_hmacsha256_update(state.address, _place(part), len(part))
        library.crypto_auth_hmacsha256_final(state.address, target.address)


def chacha20poly1305_encrypt(
    key: LockedBuffer, nonce: LockedBuffer, plaintext: LockedBuffer, associated: bytes
) -> bytes:
    """The ciphertext, with its tag; of ``nonce`` the first 12 bytes are used."""
    size = len(plaintext)
    sealed = ctypes.create_string_buffer(size + TAG_SIZE)
    _library().crypto_aead_chacha20poly1305_ietf_encrypt(
        sealed, None, plaintext.address, size, associated, len(associated), None, nonce.address, key.address
    )
    return sealed.raw


def chacha20poly1305_decrypt(
    key: LockedBuffer, nonce: LockedBuffer, sealed: bytes, associated: bytes, target: LockedBuffer
) -> bool:
    """Write the plaintext to a target of its length; of ``nonce`` the first 12 bytes are used.

    Returns:
        Whether it is authentic. If not, nothing was decrypted, and ``target`` holds zeroes.
    """
    if len(sealed) != len(target) + TAG_SIZE:
        raise InternalError("a target has another length than what is to be decrypted into it")
    return not _library().crypto_aead_chacha20poly1305_ietf_decrypt(
        target.address,
        None,
        None,
        sealed,
        len(sealed),
        associated,
        len(associated),
        nonce.address,
        key.address,
    )


def sum_of_blake2b(key: LockedBuffer, messages: Iterable[bytes]) -> int:
    """The sum of the keyed BLAKE2b hashes (RFC 7693) of messages, 32 bytes each, as big-endian numbers."""
    blake2b, place, size = _library().crypto_generichash_blake2b, key.address, HASH_SIZE
    digest = bytearray(size)
    target = ctypes.addressof(ctypes.c_char.from_buffer(digest))
    total, number = 0, int.from_bytes
    for message in messages:
        blake2b(target, size, message, len(message), place, size)
        total += number(digest, "big")
    return total


def _place(data: LockedBuffer | bytes) -> int | bytes:
    """How ctypes is told where it lies."""
    return data if isinstance(data, bytes) else data.address


@cache
def _library() -> ctypes.PyDLL:
    """The library, ready for use."""
    found = find_spec("nacl._sodium")
    if found is None or found.origin is None:
        raise SodiumError("PyNaCl is not installed; install the agent's packages with `keyholt[agent]`")
    try:
        library = ctypes.PyDLL(found.origin)
        for name, arguments in _SIGNATURES.items():
            # Where PyNaCl is built on the system's libsodium, they are found in that.
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = ctypes.c_int
        state = library.crypto_auth_hmacsha256_statebytes()
    except (OSError, AttributeError) as error:
        raise SodiumError(f"the libsodium of PyNaCl cannot be used: {error}") from None
    # It chooses the code for this processor, and may be called any number of times (doc.libsodium.org/usage).
    if state > _HMAC_STATE or library.sodium_init() < 0:
        raise SodiumError("the libsodium of PyNaCl is of another version, or cannot be initialised")
    return library
