"""The traces are of HPKE as it is: another implementation seals, and the RFC's vector comes out."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from tests.support.hpke_traces import open_traced, pair_traced


def test_key_pair_of_the_rfc() -> None:
    """RFC 9180, A.2.1."""
    ikm = bytes.fromhex("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df")
    private, traces = pair_traced("R", ikm)
    assert private.hex() == "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"
    clamped = traces["clamped private key of R"]
    one, other = (X25519PrivateKey.from_private_bytes(key).public_key() for key in (private, clamped))
    assert one == other
    assert len(set(traces.values())) == len(traces)


def test_what_another_implementation_sealed() -> None:
    """It opens, and the keystream is what lies between plaintext and ciphertext."""
    private, plaintext = os.urandom(32), os.urandom(64)
    public = X25519PrivateKey.from_private_bytes(private).public_key()
    sealed = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305).encrypt(plaintext, public, b"info")
    opened, traces = open_traced("one", private, sealed, b"info")
    assert opened == plaintext
    stream = bytes(a ^ b for a, b in zip(plaintext, sealed[32:96], strict=True))
    assert traces["keystream of one"] == stream
    assert all(len(trace) >= 16 for trace in traces.values())
