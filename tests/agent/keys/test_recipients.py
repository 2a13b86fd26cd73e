"""What is wrapped to a public key: who opens it, in which place, and who is believed to have wrapped it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from keyholt_agent.keys import envelope
from keyholt_agent.keys.envelope import RecordType, bind, make_header
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import OVERHEAD, Identity, Recipient
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyholt_agent.keys.envelope import Context, Header
    from keyholt_agent.memory import Arena, LockedBuffer

STORE: Final = bytes(range(16))
HEADER: Final = make_header(
    RecordType.ROOT_KEY, b"i" * 16, 1, 0x01020304, envelope.Suite.HPKE_X25519_CHACHA20_POLY1305
)
CONTEXT: Final = bind(STORE, "main", b"header of the slot")
PLAINTEXT: Final = bytes(range(64))


@pytest.fixture
def identity(identity_of: Callable[[bytes], Identity]) -> Identity:
    """Whom ``wrapped`` wraps to."""
    return identity_of(b"k" * 32)


@pytest.fixture
def plaintext(arena: Arena) -> Iterator[LockedBuffer]:
    """What is wrapped."""
    with arena.allocate(len(PLAINTEXT)) as buffer:
        buffer.view[:] = PLAINTEXT
        yield buffer


@pytest.fixture
def wrapped(arena: Arena, identity: Identity, plaintext: LockedBuffer) -> bytes:
    """The record in the place of ``CONTEXT``."""
    return Recipient(arena, identity.public_key, KERNEL).wrap(HEADER, CONTEXT, plaintext)


def refused(
    arena: Arena,
    identity: Identity,
    record: bytes,
    *,
    header: Header = HEADER,
    context: Context = CONTEXT,
    size: int = len(PLAINTEXT),
) -> None:
    """It does not open, and the target, filled before, holds zeroes."""
    with arena.allocate(size) as target:
        target.view[:] = b"\xa5" * size
        with pytest.raises(IntegrityError):
            identity.unwrap(record, header, context, target)
        assert not any(target.view)


def test_fields_lie_where_the_table_says(arena: Arena, identity: Identity, wrapped: bytes) -> None:
    """Another implementation opens the record, taken apart by hand."""
    assert wrapped[:30] == b"KHLT\x02\x04" + b"i" * 16 + bytes([0, 0, 0, 1, 1, 2, 3, 4])
    assert len(wrapped) == 30 + 32 + len(PLAINTEXT) + 16 == len(PLAINTEXT) + OVERHEAD
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    private = X25519PrivateKey.from_private_bytes(bytes(identity._keys.private.view))
    assert suite.decrypt(wrapped[30:], private, wrapped[:30] + CONTEXT) == PLAINTEXT
    with arena.allocate(len(PLAINTEXT)) as target:
        identity.unwrap(wrapped, HEADER, CONTEXT, target)
        assert bytes(target.view) == PLAINTEXT


def test_every_byte_counts(arena: Arena, identity: Identity, wrapped: bytes) -> None:
    """Of the header, the encapsulated key, the ciphertext, the tag."""
    for offset in range(len(wrapped)):
        damaged = bytearray(wrapped)
        damaged[offset] ^= 0x80
        refused(arena, identity, bytes(damaged))
        # With a header that says what the damaged one does, it is the authentication that refuses.
        refused(arena, identity, bytes(damaged), header=envelope.Header(bytes(damaged[:30])))


@pytest.mark.parametrize("size", [0, 30, 62, 63, 77, 141, 143])
def test_record_of_another_length(arena: Arena, identity: Identity, wrapped: bytes, size: int) -> None:
    """Cut short or lengthened, also where the target is as long as such a record would ask for."""
    record = (wrapped + b"x")[:size]
    refused(arena, identity, record)
    if size >= OVERHEAD:
        refused(arena, identity, record, size=size - OVERHEAD)


def test_another_place(arena: Arena, identity: Identity, wrapped: bytes) -> None:
    """Another store, slot name or slot header; another version of the root key, another slot's id."""
    for context in (
        bind(bytes(16), "main", b"header of the slot"),
        bind(STORE, "other", b"header of the slot"),
        bind(STORE, "main", b"another header"),
    ):
        refused(arena, identity, wrapped, context=context)
    suite = envelope.Suite.HPKE_X25519_CHACHA20_POLY1305
    for header in (
        make_header(RecordType.ROOT_KEY, b"i" * 16, 1, 0x01020305, suite),
        make_header(RecordType.ROOT_KEY, b"x" * 16, 1, 0x01020304, suite),
        make_header(RecordType.ROOT_KEY, b"i" * 16, 1, 0x01020304),
    ):
        refused(arena, identity, wrapped, header=header)
        refused(arena, identity, header + wrapped[30:], header=header)


def test_another_identity(
    arena: Arena, identity_of: Callable[[bytes], Identity], identity: Identity, wrapped: bytes
) -> None:
    """Other secret bytes give other keys, the same ones the same."""
    assert identity_of(b"k" * 32).public_key == identity.public_key
    other = identity_of(b"K" + b"k" * 31)
    assert other.public_key != identity.public_key
    refused(arena, other, wrapped)


def test_confirmation(
    arena: Arena, identity_of: Callable[[bytes], Identity], plaintext: LockedBuffer
) -> None:
    """A MAC of store and secret, under a key that is neither the private key nor what both follow from."""
    one, two = identity_of(b"k" * 32), identity_of(b"l" * 32)
    confirmed = one.confirm(STORE, plaintext)
    mac_key = hmac.digest(b"k" * 32, b"keyholt confirmation key v1", "sha256")
    assert confirmed == hmac.digest(mac_key, b"keyholt confirmation v1\0" + STORE + PLAINTEXT, "sha256")
    assert mac_key != bytes(one._keys.private.view)
    others = {one.confirm(bytes(16), plaintext), two.confirm(STORE, plaintext)}
    plaintext.view[0] ^= 1
    others.add(one.confirm(STORE, plaintext))
    assert len(others | {confirmed}) == 4


def test_recipient_that_is_none(arena: Arena, plaintext: LockedBuffer) -> None:
    """A public key that gives no secret is refused, and nothing is wrapped to it."""
    with pytest.raises(IntegrityError, match="low order"):
        Recipient(arena, bytes(32), KERNEL).wrap(HEADER, CONTEXT, plaintext)


def test_release_zeroes_both_keys(arena: Arena) -> None:
    """And again is harmless."""
    with arena.allocate(32) as secret:
        secret.view[:] = b"k" * 32
        used = arena.usage.used
        identity = Identity(arena, secret)
        assert arena.usage.used > used
        identity.release()
        identity.release()
        assert arena.usage.used == used
        assert bytes(secret.view) == b"k" * 32
    assert repr(identity) == "<Identity>"
