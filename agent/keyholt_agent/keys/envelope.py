"""The envelope: one sealed record, under a key and by a suite that its header names.

A record is ``header | nonce | ciphertext | tag``, integers big-endian:

======  =====  ==============  ==================================================================
offset  bytes  field           meaning
======  =====  ==============  ==================================================================
0       4      magic           ``KHLT``
4       1      suite           a ``Suite``; this one is 1: AES-256-GCM with a random 96-bit nonce
                               (NIST SP 800-38D, 8.2.2)
5       1      type            what is sealed, a ``RecordType``
6       16     key id          of the key that seals; zeroes for the data key in the same row
22      4      key version     of that key; 0 with a key id of zeroes
26      4      record version  of the sealed thing: a secret's version, a master key's version
30      12     nonce           random, never chosen
42      n      ciphertext      as long as the plaintext
42+n    16     tag
======  =====  ==============  ==================================================================

The records of suite 2 have the same header, and what follows it is laid out in ``recipients``.

The additional authenticated data is the header, then the ``Context``:

=====  =================================================================
bytes  field
=====  =================================================================
16     store id
4      length of the path in bytes
..     path, UTF-8
4      length of the metadata in bytes
..     metadata, may be empty
=====  =================================================================

What must hold:

- The key is chosen by the header, never by trial; an unknown magic, suite or type is refused.
- Whatever differs from what was sealed (a bit, the path, the version, the store) is ``IntegrityError``,
  and the target holds zeroes: ``decrypt_into`` by itself leaves unauthenticated bytes there.
- An AEAD object lives for one operation: while it lives it keeps copies of the key in ordinary memory.
- Nonces are random, and arguments (``randomness``). A key must not seal more than 2^32 records; ``budget``
  keeps far below.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple, NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyholt_agent.memory import wipe
from keyholt_protocol.errors import IntegrityError

__all__ = [
    "ANONYMOUS_KEY",
    "ID_SIZE",
    "KEY_SIZE",
    "NONCE_SIZE",
    "OVERHEAD",
    "Context",
    "Header",
    "HeaderFields",
    "KeyReference",
    "RecordType",
    "Suite",
    "bind",
    "decrypt",
    "header_under",
    "key_reference",
    "make_header",
    "metadata_of",
    "open_into",
    "plaintext_size",
    "read_header",
    "referenced_key",
    "seal",
    "take_apart",
]

KEY_SIZE: Final = 32
"""Bytes of every symmetric key: AES-256."""

ID_SIZE: Final = 16
"""Bytes of a key id, a keyslot's id and a store id."""

ANONYMOUS_KEY: Final = bytes(ID_SIZE)
"""The key id of a record that is sealed by the data key in the same row."""

NONCE_SIZE: Final = 12
"""Bytes of a nonce for AES-GCM (NIST SP 800-38D, section 8.2.2)."""

_MAGIC: Final = b"KHLT"
_HEADER: Final = struct.Struct(">4sBB16sII")
_HEADER_SIZE: Final = _HEADER.size
_TAG_SIZE: Final = 16
_BODY: Final = _HEADER_SIZE + NONCE_SIZE
_LENGTH: Final = struct.Struct(">I")

OVERHEAD: Final = _BODY + _TAG_SIZE
"""Bytes by which a record is longer than its plaintext."""

_SHORT: Final = 4096
"""Bytes of a record up to which slicing copies rather than refers."""

_REFERENCE_SIZE: Final = _HEADER_SIZE - 4
"""Bytes of a header before the record version."""

KeyReference = NewType("KeyReference", bytes)
"""The beginning of a record up to the key version: what is sealed, and by which key."""

Header = NewType("Header", bytes)
"""The 30 bytes that a record begins with; made by ``make_header``."""

Context = NewType("Context", bytes)
"""Where a record belongs, in the encoding of the module's second table; made by ``bind``."""


class RecordType(IntEnum):
    """What a record seals. The number is stored: it is never reused."""

    SECRET_VALUE = 1
    DATA_KEY = 2
    MASTER_KEY = 3
    ROOT_KEY = 4
    STATE = 5


class Suite(IntEnum):
    """How a record is sealed. The number is stored: it is never reused."""

    AES_256_GCM = 1
    HPKE_X25519_CHACHA20_POLY1305 = 2


class HeaderFields(NamedTuple):
    """What a record says of itself.

    Attributes:
        suite: how it is sealed.
        type: what is sealed.
        key_id: of the key that seals, 16 bytes.
        key_version: of that key.
        record_version: of the sealed thing.
    """

    suite: Suite
    type: RecordType
    key_id: bytes
    key_version: int
    record_version: int


def make_header(
    kind: RecordType,
    key_id: bytes,
    key_version: int,
    record_version: int,
    suite: Suite = Suite.AES_256_GCM,
) -> Header:
    """The header of a record; see ``HeaderFields`` for the arguments."""
    return Header(_HEADER.pack(_MAGIC, suite, kind, key_id, key_version, record_version))


def bind(store_id: bytes, path: str, metadata: bytes = b"") -> Context:
    """The context of a record: the store, the place in it, and what is stored beside it in clear."""
    encoded = path.encode()
    return Context(
        b"".join((store_id, _LENGTH.pack(len(encoded)), encoded, _LENGTH.pack(len(metadata)), metadata))
    )


def metadata_of(context: Context) -> bytes:
    """The metadata that a context was made with."""
    (path_size,) = _LENGTH.unpack_from(context, ID_SIZE)
    return context[ID_SIZE + 2 * _LENGTH.size + path_size :]


def seal(key: memoryview, header: Header, context: Context, plaintext: memoryview, nonce: bytes) -> bytes:
    """The record of a plaintext under a 32-byte key that ``header`` names.

    Args:
        nonce: 12 random bytes that were used for no other record.
    """
    return b"".join((header, nonce, AESGCM(key).encrypt(nonce, plaintext, header + context)))


def open_into(key: memoryview, record: bytes, context: Context, expected: Header, target: memoryview) -> None:
    """Open a record whose header must be ``expected`` and whose plaintext must be as long as ``target``.

    Raises:
        IntegrityError: the record is not what was sealed in this place; ``target`` is all zeroes.
    """
    try:
        nonce, sealed = take_apart(record, expected)
        if len(record) - OVERHEAD != len(target):
            raise IntegrityError(
                f"a sealed record of {len(record)} bytes has a wrong length; restore a backup"
            )
    except IntegrityError:
        wipe(target)
        raise
    decrypt(key, nonce, sealed, expected + context, target)


def take_apart(record: bytes, expected: Header) -> tuple[bytes, bytes | memoryview]:
    """The nonce of a record, and its ciphertext with the tag; nothing of it is authentic yet.

    Raises:
        IntegrityError: it is too short, or its header is not the ``expected`` one.
    """
    if not record.startswith(expected) or len(record) < OVERHEAD:
        raise _mismatch(record, expected)
    # Ciphertext may be copied, and for a short one a copy is cheaper than a view.
    sealed = record[_BODY:] if len(record) <= _SHORT else memoryview(record)[_BODY:]
    return record[_HEADER_SIZE:_BODY], sealed


def decrypt(
    key: memoryview, nonce: bytes, sealed: bytes | memoryview, associated: bytes, target: memoryview
) -> None:
    """Open what ``take_apart`` gave into a target of the plaintext's length.

    Args:
        associated: the expected header, then the context.

    Raises:
        IntegrityError: it is not what was sealed in this place; ``target`` is all zeroes.
    """
    try:
        AESGCM(key).decrypt_into(nonce, sealed, associated, target)
    except InvalidTag:
        wipe(target)
        raise IntegrityError from None


def plaintext_size(record: bytes) -> int:
    """Bytes of what a record seals.

    Raises:
        IntegrityError: the record is too short to be one.
    """
    size = len(record) - OVERHEAD
    if size < 0:
        raise IntegrityError(f"a sealed record of {len(record)} bytes is cut short; restore a backup")
    return size


def read_header(record: bytes) -> HeaderFields:
    """A record's header, not yet authenticated: it says which key to open the record with.

    Raises:
        IntegrityError: too short, or a magic, suite or type that this agent does not know.
    """
    plaintext_size(record)
    magic, suite, kind, key_id, key_version, record_version = _HEADER.unpack_from(record)
    if magic != _MAGIC:
        raise IntegrityError("a sealed record does not begin as one; restore a backup")
    try:
        known = Suite(suite)
    except ValueError:
        raise IntegrityError(f"a sealed record names cipher suite {suite}, unknown to this agent") from None
    try:
        return HeaderFields(known, RecordType(kind), key_id, key_version, record_version)
    except ValueError:
        raise IntegrityError(f"a sealed record names type {kind}, unknown to this agent") from None


def key_reference(
    kind: RecordType, key_id: bytes, key_version: int, suite: Suite = Suite.AES_256_GCM
) -> KeyReference:
    """What every record of a kind begins with that this version of a key seals."""
    return KeyReference(make_header(kind, key_id, key_version, 0, suite)[:_REFERENCE_SIZE])


def referenced_key(record: bytes) -> KeyReference:
    """The key that a record names, with the kind of the record; not yet authenticated."""
    return KeyReference(record[:_REFERENCE_SIZE])


def header_under(reference: KeyReference, record_version: int) -> Header:
    """The header of a record under a key; the same as of ``make_header``, at a third of its time."""
    return Header(reference + record_version.to_bytes(4, "big"))


def _mismatch(record: bytes, expected: Header) -> IntegrityError:
    found = read_header(record)
    _, *wanted = _HEADER.unpack(expected)
    different = [name for name, one, other in zip(found._fields, found, wanted, strict=True) if one != other]
    return IntegrityError(
        f"a sealed record has another {', '.join(different)} than its place asks for; restore a backup"
    )
