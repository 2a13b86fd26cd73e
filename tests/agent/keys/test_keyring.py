"""The keyring: the keys of one store, from its creation or a keyslot to their end, whole or not at all."""

from __future__ import annotations

import copy
import ctypes
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_agent.keys.envelope import bind
from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyring import Keyring, NewStore
from keyholt_agent.keys.keyslots import PassphraseSource, open_slot, passphrase_slot
from keyholt_agent.keys.master_key import ReserveWraps
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import Identity
from keyholt_agent.keys.root import RootKeys
from keyholt_agent.keys.root_secret import RootSecret
from keyholt_agent.keys.secrets import OpenableSecret, SealedSecret
from keyholt_agent.memory import Arena, LockedBuffer
from keyholt_agent.memory.backing import open_backing
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOT = passphrase_slot("main", 1, FLOOR, KERNEL)
VALUE = b"a secret value"


@pytest.fixture
def identity(identity_of: Callable[[bytes], Identity]) -> Identity:
    """Whom the keyslot of the store belongs to."""
    return identity_of(b"k" * 32)


@pytest.fixture
def created(arena: Arena, identity: Identity) -> Iterator[tuple[Keyring, NewStore]]:
    """A new store's keys, and what is to be committed."""
    keyring, new = Keyring.create(arena, SLOT, identity, "default", KERNEL)
    yield keyring, new
    keyring.release()
    keyring.release()


def reopened(arena: Arena, identity: Identity, new: NewStore, **changes: object) -> Keyring:
    """The keys as from a store, with what it holds changed."""
    stored: dict[str, Any] = {
        "store_id": new.store_id,
        "slots": [new.stored_slot],
        "table_mac": new.table_mac,
        "master_keys": [new.master],
        "randomness": KERNEL,
        **changes,
    }
    return Keyring.open(arena, open_slot(arena, new.stored_slot, identity, new.store_id), **stored)


def seal(keyring: Keyring) -> SealedSecret:
    """Seal a value, reserving wraps as a store would."""
    master = keyring.masters.named("default")
    need = master.need()
    if isinstance(need, ReserveWraps):
        master.granted(need)
    sealed = keyring.secrets.seal(master.permit(), "a/b", 1, b"meta", memoryview(VALUE))
    assert isinstance(sealed, SealedSecret)
    return sealed


def opened(keyring: Keyring, sealed: SealedSecret) -> bytes:
    """Open it again."""
    context = bind(keyring.store_id, "a/b", b"meta")
    buffer = keyring.secrets.open(OpenableSecret(context, 1, sealed.wrapped_key, sealed.value))
    assert isinstance(buffer, LockedBuffer)
    with buffer:
        return bytes(buffer.view)


def test_secrets_survive_their_keyring(
    arena: Arena, identity: Identity, created: tuple[Keyring, NewStore]
) -> None:
    """Create, seal, release, open from what was stored, open the secret; wraps have to be reserved anew."""
    keyring, new = created
    sealed = seal(keyring)
    assert opened(keyring, sealed) == VALUE
    keyring.release()
    again = reopened(arena, identity, new)
    assert opened(again, sealed) == VALUE
    assert again.masters.named("default").need() is not None
    again.release()


def test_release_zeroes_every_key() -> None:
    """The whole arena is zeroes once the keyring is released, and was not before."""
    backing = open_backing("mlock", 64 * 1024)
    address, size = backing.address, 64 * 1024
    arena = Arena(backing)
    with arena.allocate(32) as secret, Identity(arena, secret) as identity:
        keyring, _ = Keyring.create(arena, SLOT, identity, "default", KERNEL)
    seal(keyring)
    assert any(ctypes.string_at(address, size))
    keyring.release()
    assert not any(ctypes.string_at(address, size))
    assert arena.usage.used == 0
    arena.close()


@pytest.mark.parametrize("changed", ["table_mac", "slots", "master_keys", "no master keys", "store_id"])
def test_changed_store_does_not_open(
    arena: Arena, identity: Identity, created: tuple[Keyring, NewStore], changed: str
) -> None:
    """IntegrityError; the arena holds nothing new, and the keys in use stay as they were."""
    keyring, new = created
    sealed = seal(keyring)
    used = arena.usage.used
    values: dict[str, dict[str, object]] = {
        "table_mac": {"table_mac": bytes(32)},
        "slots": {"slots": [new.stored_slot, new.stored_slot]},
        "master_keys": {"master_keys": [replace(new.master, version=2)]},
        "no master keys": {"master_keys": [replace(new.master, wrapped=b"")]},
        "store_id": {"store_id": bytes(16)},
    }
    with pytest.raises(IntegrityError):
        reopened(arena, identity, new, **values[changed])
    assert arena.usage.used == used
    assert opened(keyring, sealed) == VALUE


def test_new_slot_opens_the_same_root(
    arena: Arena,
    created: tuple[Keyring, NewStore],
    identity_of: Callable[[bytes], Identity],
) -> None:
    """A second slot, added while unlocked, opens what the first one was created with."""
    keyring, new = created
    sealed = seal(keyring)
    other = identity_of(b"2" * 32)
    slot = keyring.complete_slot(passphrase_slot("second", 2, FLOOR, KERNEL), other)
    second = keyring.wrap_root(slot)
    slots = [new.stored_slot, second]
    mac = keyring.table_mac(slots)
    keyring.verify_table(slots, mac)
    keyring.release()
    again = Keyring.open(
        arena,
        open_slot(arena, second, other, new.store_id),
        store_id=new.store_id,
        slots=slots,
        table_mac=mac,
        master_keys=[new.master],
        randomness=KERNEL,
    )
    assert opened(again, sealed) == VALUE
    again.release()


def test_rotation_keeps_old_secrets(created: tuple[Keyring, NewStore]) -> None:
    """After a new master version, new secrets name it and old ones still open."""
    keyring, _ = created
    old = seal(keyring)
    masters = keyring.masters
    master = masters.named("default")
    assert master.active is not None
    master.active.budget.grant(2**20)
    master.active.budget._left = 0
    need = master.need()
    assert need is not None
    assert not isinstance(need, ReserveWraps)
    masters.put_in_force(masters.next_version(need))
    new = seal(keyring)
    assert (old.master_version, new.master_version) == (1, 2)
    assert opened(keyring, old) == opened(keyring, new) == VALUE


def test_holders_of_keys_hide_them(created: tuple[Keyring, NewStore], identity: Identity) -> None:
    """A repr shows no value, pickling and copying are refused, for each class that holds a key."""
    keyring, _ = created
    master = keyring.masters.named("default")
    holders = (
        keyring,
        keyring._root,
        keyring._root.wrapping,
        keyring.masters,
        keyring.secrets,
        keyring.secrets.data_keys,
        master,
        master.active,
        identity,
        keyring._root.secret,
        keyring.state,
        PassphraseSource(memoryview(b"hunter2")),
    )
    for holder in holders:
        assert len(repr(holder)) < 40
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="key material"):
                refused(holder)


def test_derived_keys_differ(arena: Arena) -> None:
    """From each other, from the root, and between roots."""
    one, two = (
        RootKeys.derive_from(arena, RootSecret.create(arena, KERNEL), bytes(16), KERNEL) for _ in range(2)
    )
    derived = [bytes(view) for keys in (one, two) for view in _views(keys)]
    assert len(set(derived)) == len(derived) == 10
    assert repr(one) == "<RootKeys>"
    one.release()
    two.release()


def _views(keys: RootKeys) -> list[memoryview]:
    state = keys.state
    return [
        keys.secret.key.view,
        keys.wrapping._key.view,
        keys.slot_mac,
        state._element_key.view,
        state._seal_key.view,
    ]
