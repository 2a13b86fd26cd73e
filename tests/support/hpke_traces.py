"""HPKE from the RFC alone, with what every step of it makes of the keys: all that may be left somewhere.

With plain library calls, which leave copies wherever they like, and nothing of the agent's code.
"""

from __future__ import annotations

import hmac
import struct
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from tests.support.key_traces import hmac_traces

__all__ = ["open_traced", "pair_traced"]

KEM: Final = b"KEM\x00\x20"
HPKE: Final = b"HPKE\x00\x20\x00\x01\x00\x03"

Secrets = dict[str, bytes]


def pair_traced(name: str, ikm: bytes) -> tuple[bytes, Secrets]:
    """The private key that follows from secret bytes (RFC 9180, 7.1.3), and the traces of it."""
    prk = _extract(b"", KEM, b"dkp_prk", ikm)
    private = _expand(prk, KEM, b"sk", b"", 32)
    return private, {
        f"dkp_prk of {name}": prk,
        **hmac_traces(f"dkp_prk of {name}", prk),
        f"words of ikm of {name}": _words(KEM + b"dkp_prk", ikm),
        f"clamped private key of {name}": _clamped(private),
        f"limbs of private key of {name}": _limbs(_clamped(private)),
    }


def open_traced(name: str, private: bytes, sealed: bytes, info: bytes) -> tuple[bytes, Secrets]:
    """What was sealed to a private key, ``enc`` first (RFC 9180, 6.1), and the secrets and traces of it."""
    enc, ciphertext = sealed[:32], sealed[32:]
    mine = X25519PrivateKey.from_private_bytes(private)
    dh = mine.exchange(X25519PublicKey.from_public_bytes(enc))
    eae_prk = _extract(b"", KEM, b"eae_prk", dh)
    kem_context = enc + mine.public_key().public_bytes_raw()
    shared_secret = _expand(eae_prk, KEM, b"shared_secret", kem_context, 32)
    context = b"\0" + _extract(b"", HPKE, b"psk_id_hash", b"") + _extract(b"", HPKE, b"info_hash", info)
    secret = _extract(shared_secret, HPKE, b"secret", b"")
    key = _expand(secret, HPKE, b"key", context, 32)
    nonce = _expand(secret, HPKE, b"base_nonce", context, 12)
    plaintext = ChaCha20Poly1305(key).decrypt(nonce, ciphertext, None)
    made = {"DH": dh, "eae_prk": eae_prk, "shared secret": shared_secret, "secret": secret, "key": key}
    traces = {f"{what} of {name}": value for what, value in made.items()}
    for what in ("eae_prk", "shared secret", "secret"):
        traces |= hmac_traces(f"{what} of {name}", made[what])
    traces[f"limbs of DH of {name}"] = _limbs(dh)
    traces[f"words of DH of {name}"] = _words(KEM + b"eae_prk", dh)
    return plaintext, traces | _chacha_traces(name, key, nonce, len(plaintext))


def _chacha_traces(name: str, key: bytes, nonce: bytes, size: int) -> Secrets:
    """Poly1305's key and the keystream (RFC 8439, 2.6 and 2.8), and words of the key as wide registers hold
    them: each as often as it goes in. A word in which bytes repeat says too little to be searched for.
    """
    words = [key[at : at + 4] for at in range(0, len(key), 4)]
    stream = Cipher(ChaCha20(key, bytes(4) + nonce), None).encryptor().update(bytes(64 + size))
    return {
        f"Poly1305 key of {name}": stream[:32],
        f"first block of {name}": stream[32:64],
        f"keystream of {name}": stream[64:],
        **{f"word {at} of key of {name}": word * 4 for at, word in enumerate(words) if len({*word}) == 4},
    }


def _clamped(private: bytes) -> bytes:
    """As X25519 takes it (RFC 7748, 5)."""
    return bytes([private[0] & 248, *private[1:31], private[31] & 127 | 64])


def _limbs(value: bytes) -> bytes:
    """A field element in five limbs of 51 bits, as 64-bit code has it."""
    number = int.from_bytes(value, "little")
    return struct.pack("<5Q", *(number >> 51 * at & (1 << 51) - 1 for at in range(5)))


def _words(label: bytes, ikm: bytes) -> bytes:
    """Secret bytes at the place of ``ikm``, in the words of SHA-256, turned round as the machine has them."""
    before = b"HPKE-v1" + label
    block = (before + ikm + b"\x80").ljust(64, b"\0")
    turned = struct.pack("<16I", *struct.unpack(">16I", block))
    return turned[-(-len(before) // 4) * 4 : (len(before) + len(ikm)) // 4 * 4]


def _extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(prk: bytes, suite: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labeled = struct.pack(">H", size) + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\x01", "sha256")[:size]
