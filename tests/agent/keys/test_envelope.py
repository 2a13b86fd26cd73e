"""Records: what was sealed opens in its place, and whatever differs is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyholt_agent.keys.envelope import (
    ANONYMOUS_KEY,
    OVERHEAD,
    Context,
    RecordType,
    Suite,
    bind,
    decrypt,
    header_under,
    key_reference,
    make_header,
    metadata_of,
    open_into,
    plaintext_size,
    read_header,
    referenced_key,
    seal,
    take_apart,
)
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from keyholt_agent.memory import Arena

KEY = memoryview(bytes(range(32)))
STORE = bytes(range(16))
OTHER_STORE = bytes(16)
HEADER = make_header(RecordType.SECRET_VALUE, ANONYMOUS_KEY, 0, 3)
CONTEXT = bind(STORE, "prod/db", b"meta")
PLAINTEXT = b"a secret of some length"
NONCE = b"not a nonce."

arena_per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def sealed(plaintext: bytes = PLAINTEXT) -> bytes:
    """A record in the place of ``CONTEXT``."""
    return seal(KEY, HEADER, CONTEXT, memoryview(plaintext), NONCE)


def refuses(
    arena: Arena, record: bytes, *, key: memoryview = KEY, context: Context = CONTEXT, size: int | None = None
) -> IntegrityError:
    """Opening is refused, and the target, filled before, holds zeroes."""
    with arena.allocate(len(PLAINTEXT) if size is None else size) as target:
        target.view[:] = b"\xa5" * len(target)
        with pytest.raises(IntegrityError) as refusal:
            open_into(key, record, context, HEADER, target.view)
        assert target.view == bytes(len(target))
    return refusal.value


@given(plaintext=st.binary(max_size=5000), path=st.text(max_size=40), metadata=st.binary(max_size=300))
@arena_per_example
def test_what_was_sealed_opens(arena: Arena, plaintext: bytes, path: str, metadata: bytes) -> None:
    """Any bytes, none at all included, at any path with any metadata."""
    context = bind(STORE, path, metadata)
    record = seal(KEY, HEADER, context, memoryview(plaintext), NONCE)
    assert len(record) == len(plaintext) + OVERHEAD
    assert plaintext_size(record) == len(plaintext)
    with arena.allocate(len(plaintext)) as target:
        open_into(KEY, record, context, HEADER, target.view)
        assert target.view == plaintext


def test_fields_lie_where_the_table_says() -> None:
    """Magic, suite, type, key id, versions, nonce: each at its offset."""
    header = make_header(RecordType.DATA_KEY, b"i" * 16, 0x01020304, 0x05060708)
    record = seal(KEY, header, CONTEXT, memoryview(PLAINTEXT), NONCE)
    assert record[:30] == b"KHLT\x01\x02" + b"i" * 16 + bytes([1, 2, 3, 4, 5, 6, 7, 8])
    fields = (Suite.AES_256_GCM, RecordType.DATA_KEY, b"i" * 16, 0x01020304, 0x05060708)
    assert read_header(record) == fields
    reference = key_reference(RecordType.DATA_KEY, b"i" * 16, 0x01020304)
    assert referenced_key(record) == reference == record[:26]
    assert header_under(reference, 0x05060708) == header
    assert STORE + struct.pack(">I", 7) + b"prod/db" + struct.pack(">I", 4) + b"meta" == CONTEXT


@pytest.mark.parametrize("metadata", [b"", b"m", b"\0" * 300])
@pytest.mark.parametrize("path", ["a", "é/" + "x" * 300])
def test_metadata_is_found_in_a_context(path: str, metadata: bytes) -> None:
    """Behind the path, however long that is."""
    assert metadata_of(bind(bytes(range(16)), path, metadata)) == metadata


def test_every_byte_counts(arena: Arena) -> None:
    """Each byte of a record, flipped in each of its bits and altogether, is refused."""
    record = sealed()
    for offset in range(len(record)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(record)
            damaged[offset] ^= flip
            refuses(arena, bytes(damaged))


@given(data=st.data())
@arena_per_example
def test_any_other_bytes_are_refused(arena: Arena, data: st.DataObject) -> None:
    """Cut short, lengthened, or replaced from any place on."""
    record = sealed()
    keep = data.draw(st.integers(0, len(record)))
    other = record[:keep] + data.draw(st.binary(max_size=60))
    if other != record and len(other) >= OVERHEAD:
        refuses(arena, other, size=plaintext_size(other))
    elif other != record:
        with pytest.raises(IntegrityError, match="cut short"):
            plaintext_size(other)
        refuses(arena, other)


@pytest.mark.parametrize(
    "context",
    [
        bind(OTHER_STORE, "prod/db", b"meta"),
        bind(STORE, "prod/dc", b"meta"),
        bind(STORE, "prod/db", b"metb"),
        bind(STORE, "prod/db", b""),
        # The same bytes in a row, divided in another way.
        bind(STORE, "prod/d", b"bmeta"),
    ],
)
def test_another_place_is_refused(arena: Arena, context: Context) -> None:
    """Another store, path or metadata than it was sealed with."""
    refuses(arena, sealed(), context=context)


def test_another_key_is_refused(arena: Arena) -> None:
    """The message names no path and no value."""
    assert str(refuses(arena, sealed(), key=memoryview(bytes(32)))) == str(IntegrityError())


@pytest.mark.parametrize(
    "header, complaint",
    [
        (
            make_header(RecordType.SECRET_VALUE, ANONYMOUS_KEY, 0, 3, Suite.HPKE_X25519_CHACHA20_POLY1305),
            "another suite than",
        ),
        (make_header(RecordType.DATA_KEY, ANONYMOUS_KEY, 0, 3), "another type than"),
        (make_header(RecordType.SECRET_VALUE, b"x" * 16, 0, 3), "another key_id than"),
        (make_header(RecordType.SECRET_VALUE, ANONYMOUS_KEY, 1, 3), "another key_version than"),
        (make_header(RecordType.SECRET_VALUE, ANONYMOUS_KEY, 0, 4), "another record_version than"),
        (make_header(RecordType.MASTER_KEY, ANONYMOUS_KEY, 0, 4), "another type, record_version than"),
    ],
)
def test_another_header_is_refused_by_name(arena: Arena, header: bytes, complaint: str) -> None:
    """A record of another kind, key or version is told apart before any key is used."""
    record = header + sealed()[30:]
    assert complaint in str(refuses(arena, record))


@pytest.mark.parametrize(
    "offset, value, complaint",
    [(0, b"k", "does not begin"), (4, b"\x03", "suite 3"), (5, b"\x00", "type 0"), (5, b"\x63", "type 99")],
)
def test_unknown_suite_type_and_magic_are_refused(offset: int, value: bytes, complaint: str) -> None:
    """Each with a sentence that says which."""
    record = sealed()
    with pytest.raises(IntegrityError, match=complaint):
        read_header(record[:offset] + value + record[offset + 1 :])


def test_sealing_is_what_its_arguments_say() -> None:
    """Nothing in it is random: the nonce is an argument, and stands in the record."""
    assert sealed() == sealed()
    assert sealed()[30:42] == NONCE


def test_parts_open_without_the_record(arena: Arena) -> None:
    """A record that was taken apart before opens with its parts alone, short or long."""
    for plaintext in (b"", PLAINTEXT, bytes(10_000)):
        nonce, ciphertext = take_apart(sealed(plaintext), HEADER)
        assert (nonce, len(ciphertext)) == (NONCE, len(plaintext) + 16)
        with arena.allocate(len(plaintext)) as target:
            decrypt(KEY, nonce, ciphertext, HEADER + CONTEXT, target.view)
            assert target.view == plaintext


@pytest.mark.parametrize("record", [b"", HEADER, HEADER + bytes(27), b"\0" + sealed()[1:]])
def test_what_is_no_record_is_not_taken_apart(record: bytes) -> None:
    """Too short for a tag, or with another header."""
    with pytest.raises(IntegrityError):
        take_apart(record, HEADER)


def test_large_values_open(arena: Arena) -> None:
    """Beyond the size up to which ciphertext is copied."""
    plaintext = bytes(range(256)) * 400
    with arena.allocate(len(plaintext)) as target:
        open_into(KEY, sealed(plaintext), CONTEXT, HEADER, target.view)
        assert target.view == plaintext
