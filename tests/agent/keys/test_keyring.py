"""The keyring: founding, unlocking, locking, and secrets that open in their place only."""

from __future__ import annotations

import copy
import ctypes
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_agent.keys.hierarchy import ReserveWraps, RotateMaster
from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyring import Founding, Keyring, SealedSecret
from keyholt_agent.keys.root import RootKeys, create_root
from keyholt_agent.keys.slots import PassphraseSource, open_slot, passphrase_slot
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing
from keyholt_protocol.errors import IntegrityError, LockedError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = bytes(range(16))
SLOT = passphrase_slot("main", 1, FLOOR)
SLOT_KEY = memoryview(b"k" * 32)
VALUE = b"a secret value"


@pytest.fixture
def keyring(arena: Arena) -> Iterator[Keyring]:
    """A locked keyring, locked again at the end."""
    keyring = Keyring(arena)
    yield keyring
    keyring.lock()


@pytest.fixture
def founding(keyring: Keyring) -> Founding:
    """What a new store has; the keyring is unlocked."""
    return keyring.found(STORE, SLOT, SLOT_KEY)


def install(arena: Arena, keyring: Keyring, founding: Founding, **changes: object) -> None:
    """Unlock as from a store, with what it holds changed."""
    stored = {
        "store_id": STORE,
        "slots": [founding.slot],
        "table_mac": founding.table_mac,
        "master_keys": [founding.master],
        **changes,
    }
    keyring.install(open_slot(arena, founding.slot, SLOT_KEY, STORE), **stored)  # type: ignore[arg-type]


def seal(keyring: Keyring, path: str = "a/b", version: int = 1, value: bytes = VALUE) -> SealedSecret:
    """Seal a value, reserving wraps as a store would."""
    need = keyring.wrap_need()
    if isinstance(need, ReserveWraps):
        keyring.wraps_granted(need)
    return keyring.seal_secret(path, version, b"meta", memoryview(value))


def opened(keyring: Keyring, sealed: SealedSecret, path: str = "a/b", version: int = 1) -> bytes:
    """Open a value in a place."""
    with keyring.open_secret(path, version, b"meta", sealed.wrapped_key, sealed.value) as buffer:
        return bytes(buffer.view)


def test_secrets_survive_lock_and_unlock(arena: Arena, keyring: Keyring, founding: Founding) -> None:
    """Found, seal, lock, unlock from what was stored, open."""
    sealed = seal(keyring)
    assert opened(keyring, sealed) == VALUE
    assert (sealed.master_id, sealed.master_version) == (founding.master.key_id, 1)
    keyring.lock()
    install(arena, keyring, founding)
    assert opened(keyring, sealed) == VALUE
    assert keyring.wrap_need() is not None


@pytest.mark.parametrize("size", [0, 1, 48, 100_000])
def test_values_of_any_size(keyring: Keyring, founding: Founding, size: int) -> None:
    """Empty ones and large ones."""
    assert opened(keyring, seal(keyring, value=b"v" * size)) == b"v" * size


def test_locked_keyring_refuses_everything(keyring: Keyring, founding: Founding) -> None:
    """Every use of a key is LockedError; locking again is harmless."""
    sealed = seal(keyring)
    keyring.lock()
    keyring.lock()
    assert not keyring.unlocked
    rotation = RotateMaster(key_id=bytes(16), name="default", version=1)
    for use in (
        lambda: opened(keyring, sealed),
        lambda: keyring.seal_secret("a", 1, b"", memoryview(b"")),
        lambda: keyring.seal_slot(SLOT, SLOT_KEY),
        lambda: keyring.table_mac([]),
        keyring.wrap_need,
        lambda: keyring.wraps_granted(ReserveWraps(key_id=bytes(16), version=1, count=1)),
        lambda: keyring.next_master(rotation),
        lambda: keyring.add_master(founding.master),
    ):
        with pytest.raises(LockedError):
            use()


def test_lock_zeroes_every_key() -> None:
    """The whole arena is zeroes once the keyring is locked, and was not before."""
    backing = open_backing("mlock", 16384)
    address = backing.address
    arena = Arena(backing)
    keyring = Keyring(arena)
    keyring.found(STORE, SLOT, SLOT_KEY)
    seal(keyring)
    assert any(ctypes.string_at(address, 16384))
    keyring.lock()
    assert not any(ctypes.string_at(address, 16384))
    assert arena.usage.used == 0
    arena.close()


def test_data_key_is_gone_after_each_use(keyring: Keyring, founding: Founding) -> None:
    """Its slot holds zeroes between operations, failed ones too."""
    sealed = seal(keyring)
    assert keyring._open is not None
    data_key = keyring._open.data_key.view
    assert data_key == bytes(32)
    opened(keyring, sealed)
    assert data_key == bytes(32)
    with pytest.raises(IntegrityError):
        opened(keyring, replace(sealed, value=sealed.value[:-1] + b"x"))
    assert data_key == bytes(32)


def test_swapped_records_are_refused(keyring: Keyring, founding: Founding) -> None:
    """Value and data key are of one place: path, version, metadata; whole rows do not move either."""
    one, two, newer = seal(keyring), seal(keyring, "a/c"), seal(keyring, version=2)
    for other in (two, newer):
        for swapped in (
            other,
            replace(one, value=other.value),
            replace(one, wrapped_key=other.wrapped_key),
        ):
            with pytest.raises(IntegrityError):
                opened(keyring, swapped)
    with pytest.raises(IntegrityError):
        keyring.open_secret("a/b", 1, b"other", one.wrapped_key, one.value)


def test_every_byte_counts(keyring: Keyring, founding: Founding) -> None:
    """Each byte of value and wrapped key, flipped; each cut of them."""
    sealed = seal(keyring)
    for field in ("wrapped_key", "value"):
        record: bytes = getattr(sealed, field)
        for offset in range(len(record)):
            flipped = bytearray(record)
            flipped[offset] ^= 0xFF
            for damaged in (bytes(flipped), record[:offset], record + record[:offset] + b"x"):
                changes: dict[str, Any] = {field: damaged}
                with pytest.raises(IntegrityError):
                    opened(keyring, replace(sealed, **changes))


def test_no_room_for_the_value_is_said(keyring: Keyring, founding: Founding) -> None:
    """A value larger than the arena: ResourceExhaustedError, and nothing is kept."""
    sealed = seal(keyring)
    with pytest.raises(ResourceExhaustedError):
        opened(keyring, replace(sealed, value=bytes(2 * 1024 * 1024)))


@pytest.mark.parametrize("changed", ["table_mac", "slots", "master_keys", "store_id"])
def test_changed_store_does_not_unlock(
    arena: Arena, keyring: Keyring, founding: Founding, changed: str
) -> None:
    """IntegrityError; the arena holds nothing new, and an unlocked keyring stays as it was."""
    sealed = seal(keyring)
    used = arena.usage.used
    values: dict[str, object] = {
        "table_mac": bytes(32),
        "slots": [founding.slot, founding.slot],
        "master_keys": [replace(founding.master, version=2)],
        "store_id": bytes(16),
    }
    with pytest.raises(IntegrityError):
        install(arena, keyring, founding, **{changed: values[changed]})
    assert arena.usage.used == used
    assert opened(keyring, sealed) == VALUE


def test_unlocking_again_replaces_the_keys(arena: Arena, keyring: Keyring, founding: Founding) -> None:
    """No second set of keys stays in the arena."""
    used = arena.usage.used
    install(arena, keyring, founding)
    assert arena.usage.used == used


def test_new_slot_opens_the_same_root(arena: Arena, keyring: Keyring, founding: Founding) -> None:
    """A second slot, added while unlocked, unlocks what the first one founded."""
    sealed = seal(keyring)
    second = keyring.seal_slot(passphrase_slot("second", 2, FLOOR), memoryview(b"2" * 32))
    slots = [founding.slot, second]
    mac = keyring.table_mac(slots)
    keyring.lock()
    keyring.install(
        open_slot(arena, second, memoryview(b"2" * 32), STORE),
        store_id=STORE,
        slots=slots,
        table_mac=mac,
        master_keys=[founding.master],
    )
    assert opened(keyring, sealed) == VALUE


def test_rotation_keeps_old_secrets(keyring: Keyring, founding: Founding) -> None:
    """After a new master version, new secrets name it and old ones still open."""
    old = seal(keyring)
    rotation = RotateMaster(key_id=founding.master.key_id, name="default", version=1)
    keyring.add_master(keyring.next_master(rotation))
    new = seal(keyring)
    assert (old.master_version, new.master_version) == (1, 2)
    assert opened(keyring, old) == opened(keyring, new) == VALUE


def test_holders_of_keys_hide_them(arena: Arena, keyring: Keyring, founding: Founding) -> None:
    """A repr shows no value, pickling and copying are refused, for each class that holds a key."""
    assert keyring._open is not None
    assert repr(keyring) == "<Keyring unlocked>"
    holders = (
        keyring,
        keyring._open,
        keyring._open.root,
        keyring._open.masters,
        PassphraseSource(memoryview(b"hunter2")),
    )
    for holder in holders:
        assert len(repr(holder)) < 40
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="key material"):
                refused(holder)


def test_derived_keys_differ(arena: Arena) -> None:
    """From each other, from the root, and between roots."""
    one, two = (RootKeys.derive_from(arena, create_root(arena)) for _ in range(2))
    assert len({bytes(key) for keys in (one, two) for key in (keys.root, keys.wrap, keys.slot_mac)}) == 6
    assert repr(one) == "<RootKeys>"
    one.release()
    two.release()
