"""Keyslots: what opens one, and what does not: no damage, no other slot, no root key of somebody else."""

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
    complete_slot,
    derive_identity,
    open_slot,
    passphrase_slot,
    table_mac,
    verify_table,
    wrap_root,
)
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import Identity
from keyholt_agent.keys.root_secret import RootSecret
from keyholt_protocol.errors import IntegrityError, UnlockFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyholt_agent.memory import Arena

STORE = bytes(range(16))
MAC_KEY = memoryview(b"m" * 32)
DRAFT = passphrase_slot("main", 1_700_000_000, FLOOR, KERNEL)

keyslots = st.builds(
    Keyslot,
    kind=st.just(SlotKind.PASSPHRASE),
    slot_id=st.binary(min_size=16, max_size=16),
    created=st.integers(0, 2**64 - 1),
    name=st.text(max_size=64),
    parameters=st.binary(max_size=200),
    public_key=st.binary(min_size=32, max_size=32),
    confirmation=st.binary(min_size=32, max_size=32),
)


@pytest.fixture
def identity(identity_of: Callable[[bytes], Identity]) -> Identity:
    """Whom ``DRAFT`` belongs to."""
    return identity_of(b"k" * 32)


@pytest.fixture
def root(arena: Arena) -> Iterator[RootSecret]:
    """The root key of the store, in its third version."""
    with RootSecret.create(arena, KERNEL) as root:
        root.version = 3
        yield root


@pytest.fixture
def slot(identity: Identity, root: RootSecret) -> Keyslot:
    """The keyslot of ``DRAFT``."""
    return complete_slot(DRAFT, identity, root, STORE)


@pytest.fixture
def stored(arena: Arena, slot: Keyslot, root: RootSecret) -> StoredKeyslot:
    """The root key in it."""
    return wrap_root(arena, slot, root, STORE, KERNEL)


def parts(root: RootSecret) -> tuple[int, bytes, bytes]:
    """All that is in it."""
    return root.version, bytes(root.key.view), bytes(root.confirmation.view)


def test_passphrase_opens_its_slot_and_no_other_does(arena: Arena, root: RootSecret) -> None:
    """Through Argon2id and back; a wrong passphrase is UnlockFailedError and holds on to nothing."""
    with arena.allocate(5) as passphrase:
        source = PassphraseSource(passphrase.view)
        passphrase.view[:] = b"right"
        with derive_identity(arena, DRAFT, source) as identity:
            slot = complete_slot(DRAFT, identity, root, STORE)
        stored = wrap_root(arena, slot, root, STORE, KERNEL)
        passphrase.view[:] = b"wrong"
        with derive_identity(arena, slot, source) as identity:
            with pytest.raises(UnlockFailedError) as refusal:
                open_slot(arena, stored, identity, STORE)
            assert refusal.value.__cause__ is None
        passphrase.view[:] = b"right"
        with (
            derive_identity(arena, slot, source) as identity,
            open_slot(arena, stored, identity, STORE) as opened,
        ):
            assert parts(opened) == parts(root)


def test_wrong_identity_is_known_before_anything_is_decrypted(
    arena: Arena,
    identity_of: Callable[[bytes], Identity],
    stored: StoredKeyslot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its public key. So a slot is either not this passphrase's, or it is damaged."""
    monkeypatch.setattr(Identity, "unwrap", None)
    with pytest.raises(UnlockFailedError):
        open_slot(arena, stored, identity_of(b"x" * 32), STORE)


def test_new_root_key_is_wrapped_without_a_secret(
    arena: Arena, identity: Identity, stored: StoredKeyslot, root: RootSecret
) -> None:
    """What is in the store suffices: the header stays, and the same identity opens the next version."""
    with RootSecret.create(arena, KERNEL) as second:
        second.version = root.version + 1
        second.confirmation.view[:] = root.confirmation.view
        again = wrap_root(arena, Keyslot.decode(stored.header), second, STORE, KERNEL)
        assert again.header == stored.header
        with open_slot(arena, again, identity, STORE) as opened:
            assert parts(opened) == parts(second)
        with open_slot(arena, stored, identity, STORE) as opened:
            assert parts(opened) == parts(root)  # the old record is still what it was: version 3


def test_root_key_of_somebody_else(arena: Arena, identity: Identity, slot: Keyslot) -> None:
    """Everybody can wrap to a public key. Who never had a root key of the store is not believed."""
    with RootSecret.create(arena, KERNEL) as theirs:
        forged = wrap_root(arena, slot, theirs, STORE, KERNEL)
    with pytest.raises(IntegrityError, match="root key of another store"):
        open_slot(arena, forged, identity, STORE)


def test_every_byte_counts(arena: Arena, identity: Identity, stored: StoredKeyslot) -> None:
    """A slot with any byte of header or wrapped key changed does not open. The public key says whose slot it
    is; all else is damage.
    """
    for field in ("header", "wrapped_root"):
        original: bytes = getattr(stored, field)
        for offset in range(len(original)):
            damaged = bytearray(original)
            damaged[offset] ^= 0xFF
            of_public_key = field == "header" and 30 <= offset < 62
            with pytest.raises(UnlockFailedError if of_public_key else IntegrityError):
                open_slot(arena, replace(stored, **{field: bytes(damaged)}), identity, STORE)


def test_slot_of_another_store_does_not_open(
    arena: Arena, identity: Identity, stored: StoredKeyslot, root: RootSecret
) -> None:
    """Nor does a slot that took another's wrapped key, though both have the same key, nor a record with the
    number of another version.
    """
    with pytest.raises(IntegrityError):
        open_slot(arena, stored, identity, bytes(16))
    second = complete_slot(passphrase_slot("other", 1, FLOOR, KERNEL), identity, root, STORE)
    other = wrap_root(arena, second, root, STORE, KERNEL)
    with pytest.raises(IntegrityError, match="does not belong"):
        open_slot(arena, replace(stored, wrapped_root=other.wrapped_root), identity, STORE)
    renumbered = stored.wrapped_root[:26] + struct.pack(">I", 4) + stored.wrapped_root[30:]
    with pytest.raises(IntegrityError):
        open_slot(arena, replace(stored, wrapped_root=renumbered), identity, STORE)


@pytest.mark.parametrize("cut", [0, 1, 30, 62, 126, 141, 143])
def test_wrapped_key_of_a_wrong_length_is_refused(
    arena: Arena, identity: Identity, stored: StoredKeyslot, cut: int
) -> None:
    """Cut short or lengthened: IntegrityError, before the key is used."""
    assert len(stored.wrapped_root) == 142
    wrapped = (stored.wrapped_root + b"x")[:cut]
    with pytest.raises(IntegrityError):
        open_slot(arena, replace(stored, wrapped_root=wrapped), identity, STORE)


def test_parameters_out_of_bounds_are_refused_before_the_derivation(arena: Arena) -> None:
    """And no block of the arena is kept."""
    hostile = replace(DRAFT, parameters=b"\x01" + b"\xff" * 28)
    with pytest.raises(IntegrityError, match="out of bounds"):
        derive_identity(arena, hostile, PassphraseSource(memoryview(b"p")))


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
    slot = Keyslot(
        kind=SlotKind.PASSPHRASE,
        slot_id=b"i" * 16,
        created=258,
        name="né",
        parameters=b"pp",
        public_key=b"P" * 32,
        confirmation=b"C" * 32,
    )
    header = (
        b"KHKS\x01\x01" + b"i" * 16 + b"\0\0\0\0\0\0\1\2" + b"P" * 32 + b"C" * 32
        + b"\0\3n\xc3\xa9" + b"\0\2pp"
    )  # fmt: skip
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


def test_table_mac_covers_every_slot(
    arena: Arena, identity: Identity, stored: StoredKeyslot, root: RootSecret
) -> None:
    """Order does not matter; adding, removing, changing, another store and another key do."""
    slot = complete_slot(passphrase_slot("two", 2, FLOOR, KERNEL), identity, root, STORE)
    one, two = stored, wrap_root(arena, slot, root, STORE, KERNEL)
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
        verify_table(memoryview(bytes(32)), STORE, [one, two], mac)


def test_new_slots_are_salted() -> None:
    """Two slots of one name share neither id nor salt, and their repr is all public."""
    one, two = (passphrase_slot("main", 1, FLOOR, KERNEL) for _ in range(2))
    assert one.slot_id != two.slot_id
    assert one.parameters[-16:] != two.parameters[-16:]
    assert repr(PassphraseSource(memoryview(b"hunter2"))) == "<PassphraseSource>"
