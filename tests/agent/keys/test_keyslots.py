"""Keyslots: wrapping and unwrapping the root key, their encodings, and the table's MAC."""

from __future__ import annotations

import hmac
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyslots import (
    Keyslot,
    PassphraseSource,
    SlotKind,
    StoredKeyslot,
    derive_slot_key,
    open_slot,
    passphrase_slot,
    table_mac,
    verify_table,
    wrap_root,
)
from keyholt_agent.keys.randomness import KERNEL
from keyholt_protocol.errors import IntegrityError, UnlockFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.keys.envelope import KeyReference
    from keyholt_agent.keys.wrapping_key import SoftwareKey
    from keyholt_agent.memory import Arena

STORE = bytes(range(16))
ROOT = memoryview(b"r" * 32)
MAC_KEY = memoryview(b"m" * 32)
SLOT = passphrase_slot("main", 1_700_000_000, FLOOR, KERNEL)

keyslots = st.builds(
    Keyslot,
    kind=st.just(SlotKind.PASSPHRASE),
    slot_id=st.binary(min_size=16, max_size=16),
    created=st.integers(0, 2**64 - 1),
    name=st.text(max_size=64),
    parameters=st.binary(max_size=200),
)


@pytest.fixture
def slot_key(software_key: Callable[[KeyReference, bytes], SoftwareKey]) -> SoftwareKey:
    """The key of ``SLOT``."""
    return software_key(SLOT.reference, b"k" * 32)


@pytest.fixture
def stored(slot_key: SoftwareKey) -> StoredKeyslot:
    """The root key in ``SLOT``."""
    return wrap_root(SLOT, slot_key, ROOT, STORE)


def test_passphrase_opens_its_slot_and_no_other_does(arena: Arena) -> None:
    """Through Argon2id and back; a wrong passphrase is UnlockFailedError and holds on to nothing."""
    with arena.allocate(32) as root, arena.allocate(5) as passphrase:
        KERNEL.fill(root)
        passphrase.view[:] = b"right"
        with derive_slot_key(arena, SLOT, PassphraseSource(passphrase.view), KERNEL) as key:
            slot = wrap_root(SLOT, key, root.view, STORE)
        passphrase.view[:] = b"wrong"
        with derive_slot_key(arena, SLOT, PassphraseSource(passphrase.view), KERNEL) as key:
            with pytest.raises(UnlockFailedError) as refusal:
                open_slot(arena, slot, key, STORE)
            assert refusal.value.__cause__ is None
        passphrase.view[:] = b"right"
        key = derive_slot_key(arena, SLOT, PassphraseSource(passphrase.view), KERNEL)
        with key, open_slot(arena, slot, key, STORE) as opened:
            assert opened.view == root.view


def test_every_byte_counts(arena: Arena, slot_key: SoftwareKey, stored: StoredKeyslot) -> None:
    """A slot with any byte of header or wrapped key changed does not open."""
    for field in ("header", "wrapped_root"):
        original: bytes = getattr(stored, field)
        for offset in range(len(original)):
            damaged = bytearray(original)
            damaged[offset] ^= 0xFF
            with pytest.raises((UnlockFailedError, IntegrityError)):
                open_slot(arena, replace(stored, **{field: bytes(damaged)}), slot_key, STORE)


def test_slot_of_another_store_does_not_open(
    arena: Arena,
    slot_key: SoftwareKey,
    stored: StoredKeyslot,
    software_key: Callable[[KeyReference, bytes], SoftwareKey],
) -> None:
    """Nor does a slot that took another's wrapped key, though both have the same key."""
    with pytest.raises(UnlockFailedError):
        open_slot(arena, stored, slot_key, bytes(16))
    second = passphrase_slot("other", 1, FLOOR, KERNEL)
    other = wrap_root(second, software_key(second.reference, b"k" * 32), ROOT, STORE)
    swapped = replace(stored, wrapped_root=other.wrapped_root)
    with pytest.raises(IntegrityError, match="does not belong"):
        open_slot(arena, swapped, slot_key, STORE)


@pytest.mark.parametrize("cut", [0, 1, 30, 60, 89, 91])
def test_wrapped_key_of_a_wrong_length_is_refused(
    arena: Arena, slot_key: SoftwareKey, stored: StoredKeyslot, cut: int
) -> None:
    """Cut short or lengthened: IntegrityError, before the key is used."""
    wrapped = (stored.wrapped_root + b"x")[:cut]
    with pytest.raises(IntegrityError):
        open_slot(arena, replace(stored, wrapped_root=wrapped), slot_key, STORE)


def test_parameters_out_of_bounds_are_refused_before_the_derivation(arena: Arena) -> None:
    """And no block of the arena is kept."""
    hostile = replace(SLOT, parameters=b"\x01" + b"\xff" * 28)
    with pytest.raises(IntegrityError, match="out of bounds"):
        derive_slot_key(arena, hostile, PassphraseSource(memoryview(b"p")), KERNEL)


@given(slot=keyslots)
def test_header_comes_back(slot: Keyslot) -> None:
    """Any name and parameters."""
    assert Keyslot.decode(slot.encode()) == slot


@given(
    encoded=st.one_of(st.binary(max_size=120), st.builds(lambda s, t: s.encode() + t, keyslots, st.binary()))
)
def test_header_has_one_encoding(encoded: bytes) -> None:
    """What is accepted is what ``encode`` makes; all else is IntegrityError."""
    try:
        slot = Keyslot.decode(encoded)
    except IntegrityError:
        return
    assert slot.encode() == encoded


@given(slot=keyslots, data=st.data())
def test_damaged_header_is_another_slot_or_none(slot: Keyslot, data: st.DataObject) -> None:
    """No two encodings, and no exception but IntegrityError, whatever is changed or cut off."""
    encoded = bytearray(slot.encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    for damaged in (bytes(encoded), cut):
        try:
            assert Keyslot.decode(damaged) != slot
        except IntegrityError:
            pass


def test_fields_lie_where_the_table_says() -> None:
    """Header and MAC, put together by hand."""
    slot = Keyslot(kind=SlotKind.PASSPHRASE, slot_id=b"i" * 16, created=258, name="né", parameters=b"pp")
    header = b"KHKS\x01\x01" + b"i" * 16 + b"\0\0\0\0\0\0\1\2" + b"\0\3n\xc3\xa9" + b"\0\2pp"
    assert slot.encode() == header
    other = b"\0" + header
    message = b"keyholt slot table v1\0\0\0" + STORE + b"\0\0\0\2"
    for first, second in ((other, b"wrapped 2"), (header, b"wrapped")):
        message += struct.pack(">I", len(first)) + first + struct.pack(">I", len(second)) + second
    table = [
        StoredKeyslot(header=header, wrapped_root=b"wrapped"),
        StoredKeyslot(header=other, wrapped_root=b"wrapped 2"),
    ]
    assert table_mac(MAC_KEY, STORE, table) == hmac.digest(b"m" * 32, message, "sha256")


def test_table_mac_covers_every_slot(slot_key: SoftwareKey, stored: StoredKeyslot) -> None:
    """Order does not matter; adding, removing, changing, another store and another key do."""
    one, two = stored, wrap_root(passphrase_slot("two", 2, FLOOR, KERNEL), slot_key, ROOT, STORE)
    mac = table_mac(MAC_KEY, STORE, [one, two])
    verify_table(MAC_KEY, STORE, [two, one], mac)
    for slots in (
        [one],
        [two],
        [],
        [one, two, two],
        [one, replace(two, wrapped_root=b"x" + two.wrapped_root[1:])],
    ):
        with pytest.raises(IntegrityError, match="keyslot table"):
            verify_table(MAC_KEY, STORE, slots, mac)
    with pytest.raises(IntegrityError):
        verify_table(MAC_KEY, bytes(16), [one, two], mac)
    with pytest.raises(IntegrityError):
        verify_table(ROOT, STORE, [one, two], mac)


def test_new_slots_are_salted() -> None:
    """Two slots of one name share neither id nor salt, and their repr is all public."""
    one, two = (passphrase_slot("main", 1, FLOOR, KERNEL) for _ in range(2))
    assert one.slot_id != two.slot_id
    assert one.parameters[-16:] != two.parameters[-16:]
    assert repr(PassphraseSource(memoryview(b"hunter2"))) == "<PassphraseSource>"
