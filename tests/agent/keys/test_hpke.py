"""HPKE: the RFC's own vectors, another implementation in both directions, and all that must not open."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyholt_agent.keys import hpke, sodium
from keyholt_agent.keys.randomness import KERNEL
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyholt_agent.keys.hpke import KeyPair
    from keyholt_agent.memory import Arena, LockedBuffer

SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

VECTOR: Final = {
    name: bytes.fromhex(value)
    for name, value in {
        "info": "4f6465206f6e2061204772656369616e2055726e",
        "ikmE": "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b",
        "pkEm": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        "skEm": "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
        "ikmR": "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df",
        "pkRm": "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
        "skRm": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        "key": "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91",
        "base_nonce": "5c4d98150661b848853b547f",
        "pt": "4265617574792069732074727574682c20747275746820626561757479",
        "aad": "436f756e742d30",
        "ct": "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    }.items()
}
"""RFC 9180, appendix A.2.1 and A.2.1.1, sequence number 0."""

LOW_ORDER: Final = tuple(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)
"""All points of low order, two of them also with the bit set that X25519 leaves out (RFC 7748, section 5)."""

PLAINTEXT: Final = bytes(range(64))
INFO: Final = b"what it is bound to"

arena_per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Fixed:
    """Randomness that is known."""

    def __init__(self, drawn: bytes) -> None:
        self._drawn = drawn

    def fill(self, target: LockedBuffer) -> None:
        target.view[:] = self._drawn

    def nonce(self) -> bytes:
        raise NotImplementedError

    def draw(self, size: int) -> bytes:
        raise NotImplementedError


@contextmanager
def locked(arena: Arena, data: bytes) -> Iterator[LockedBuffer]:
    """The bytes in locked memory."""
    with arena.allocate(len(data)) as buffer:
        buffer.view[:] = data
        yield buffer


@contextmanager
def key_pair(arena: Arena, ikm: bytes) -> Iterator[KeyPair]:
    """The key pair that follows from ``ikm``."""
    with locked(arena, ikm) as secret:
        pair = hpke.derive_key_pair(arena, secret)
    with pair.private:
        yield pair


@pytest.fixture
def recipient(arena: Arena) -> Iterator[KeyPair]:
    """A key pair."""
    with key_pair(arena, b"r" * 32) as pair:
        yield pair


def sealed(arena: Arena, public_key: bytes, plaintext: bytes = PLAINTEXT, info: bytes = INFO) -> bytes:
    """``enc`` and the ciphertext, in one."""
    with locked(arena, plaintext) as clear:
        return b"".join(hpke.seal_base(arena, KERNEL, public_key, clear, info=info))


def opened(
    arena: Arena, pair: KeyPair, together: bytes, info: bytes = INFO, size: int = len(PLAINTEXT)
) -> bytes:
    """The plaintext of it."""
    with arena.allocate(size) as target:
        hpke.open_base(arena, pair, together[:32], together[32:], target, info=info)
        return bytes(target.view)


def refused(
    arena: Arena, pair: KeyPair, together: bytes, info: bytes = INFO, *, match: str | None = None
) -> None:
    """It does not open, and the target, filled before, holds zeroes."""
    with locked(arena, b"\xa5" * len(PLAINTEXT)) as target:
        with pytest.raises(IntegrityError, match=match):
            hpke.open_base(arena, pair, together[:32], together[32:], target, info=info)
        assert not any(target.view)


@pytest.mark.parametrize("side", ["E", "R"])
def test_key_pairs_of_the_rfc(arena: Arena, side: str) -> None:
    """Those of the sender and of the recipient follow from what the RFC says."""
    with key_pair(arena, VECTOR[f"ikm{side}"]) as pair:
        assert bytes(pair.private.view) == VECTOR[f"sk{side}m"]
        assert pair.public == VECTOR[f"pk{side}m"]


def test_vector_of_the_rfc(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encapsulated key, key, nonce and ciphertext, byte for byte, and back."""
    used: list[tuple[bytes, bytes]] = []
    encrypt = sodium.chacha20poly1305_encrypt

    def noted(key: LockedBuffer, nonce: LockedBuffer, plaintext: LockedBuffer, associated: bytes) -> bytes:
        used.append((bytes(key.view), bytes(nonce.view[:12])))
        return encrypt(key, nonce, plaintext, associated)

    monkeypatch.setattr("keyholt_agent.keys.hpke.chacha20poly1305_encrypt", noted)
    info, aad = VECTOR["info"], VECTOR["aad"]
    with (
        key_pair(arena, VECTOR["ikmR"]) as pair,
        locked(arena, VECTOR["pt"]) as clear,
        arena.allocate(len(VECTOR["pt"])) as target,
    ):
        enc, ct = hpke.seal_base(arena, Fixed(VECTOR["ikmE"]), pair.public, clear, info=info, aad=aad)
        assert (enc, ct) == (VECTOR["pkEm"], VECTOR["ct"])
        assert used == [(VECTOR["key"], VECTOR["base_nonce"])]
        hpke.open_base(arena, pair, enc, ct, target, info=info, aad=aad)
        assert bytes(target.view) == VECTOR["pt"]
        with pytest.raises(IntegrityError):
            hpke.open_base(arena, pair, enc, ct, target, info=info, aad=b"Count-1")


@given(
    ikm=st.binary(min_size=32, max_size=32), plaintext=st.binary(max_size=200), info=st.binary(max_size=300)
)
@arena_per_example
def test_another_implementation(arena: Arena, ikm: bytes, plaintext: bytes, info: bytes) -> None:
    """What is sealed here opens there, and what is sealed there opens here."""
    with key_pair(arena, ikm) as pair:
        private = X25519PrivateKey.from_private_bytes(bytes(pair.private.view))
        assert SUITE.decrypt(sealed(arena, pair.public, plaintext, info), private, info) == plaintext
        public = X25519PublicKey.from_public_bytes(pair.public)
        there = SUITE.encrypt(plaintext, public, info)
        assert opened(arena, pair, there, info, len(plaintext)) == plaintext


def test_every_byte_counts(arena: Arena, recipient: KeyPair) -> None:
    """One bit of ``enc``, ciphertext or ``info`` changed, in each byte: it does not open."""
    together = sealed(arena, recipient.public)
    assert opened(arena, recipient, together) == PLAINTEXT
    for offset in range(len(together)):
        for bit in (0x01, 0x80):  # of a point's last byte, 0x80 is left out by X25519 itself
            damaged = bytearray(together)
            damaged[offset] ^= bit
            refused(arena, recipient, bytes(damaged))
    for offset in range(len(INFO)):
        other = bytearray(INFO)
        other[offset] ^= 1
        refused(arena, recipient, together, bytes(other))
    for info in (b"", INFO[:-1], INFO + b"\0"):
        refused(arena, recipient, together, info)


def test_another_recipient(arena: Arena, recipient: KeyPair) -> None:
    """It opens with no other key pair, nor with the private key beside another public key."""
    together = sealed(arena, recipient.public)
    with key_pair(arena, b"s" * 32) as other:
        refused(arena, other, together)
        refused(arena, hpke.KeyPair(recipient.private, other.public), together)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:4])
def test_point_of_low_order(arena: Arena, recipient: KeyPair, point: bytes) -> None:
    """Neither wrapped to nor opened with; the other implementation agrees that there is no secret in it."""
    with pytest.raises(IntegrityError, match="low order"):
        sealed(arena, point)
    refused(arena, recipient, point + bytes(80), match="low order")
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.from_private_bytes(b"k" * 32).exchange(X25519PublicKey.from_public_bytes(point))


def test_all_is_zeroed_on_the_way(arena: Arena, recipient: KeyPair) -> None:
    """Blocks that held a secret come back zeroed, from what opens and from what is refused."""
    used = arena.usage.used
    together = sealed(arena, recipient.public)
    opened(arena, recipient, together)
    refused(arena, recipient, together[:-1] + b"\0")
    with pytest.raises(IntegrityError):
        sealed(arena, bytes(32))
    assert arena.usage.used == used


def test_no_two_are_alike(arena: Arena, recipient: KeyPair) -> None:
    """Each has an ephemeral key of its own."""
    assert sealed(arena, recipient.public)[:32] != sealed(arena, recipient.public)[:32]
