"""The keyring: the keys of one unlocked store, owned together, from unlock to lock.

- There is one only while the store is unlocked; ``release`` zeroes all of it before it returns.
- ``open`` gives nothing unless the whole chain holds: slot table, every master key.
- Everything runs inline, in microseconds, on the one thread that owns the keyring, but for what a token
  takes.

It reads and writes no store: it takes stored records and gives new ones to commit.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyholt_agent.key_states import Custody, KeyState
from keyholt_agent.keys.custody import SealedMasterKey, SoftwareCustody
from keyholt_agent.keys.envelope import ID_SIZE, read_header
from keyholt_agent.keys.keyslots import (
    Keyslot,
    KeyslotDraft,
    StoredKeyslot,
    complete_slot,
    table_mac,
    verify_table,
    wrap_root,
)
from keyholt_agent.keys.master_keys import MasterKeys
from keyholt_agent.keys.root import ROOT_WRAP_KEY, RootKeys
from keyholt_agent.keys.root_secret import RootSecret
from keyholt_agent.keys.secrets import SecretKeys
from keyholt_agent.memory import Guarded
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyholt_agent.keys.custody import Custodian, StoredMasterKey
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.keys.recipients import Identity
    from keyholt_agent.keys.state_keys import StateKeys
    from keyholt_agent.memory import Arena

__all__ = ["Keyring", "NewRoot", "NewStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStore:
    """What a new store starts with, to be committed."""

    store_id: bytes
    slot: Keyslot
    stored_slot: StoredKeyslot
    table_mac: bytes
    master: SealedMasterKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRoot:
    """What comes into the store with a new root key, to be committed together.

    Attributes:
        slots: the keyslots that stay, wrapping it.
        table_mac: over all of them.
        wrapped: each master key version by its id and number, as the new root key wraps it.
        added: a new version of each master key.
    """

    slots: tuple[StoredKeyslot, ...]
    table_mac: bytes
    wrapped: Mapping[tuple[bytes, int], bytes]
    added: tuple[SealedMasterKey, ...]


class Keyring(Guarded):
    """The keys of one unlocked store. See the module for its rules.

    Attributes:
        store_id: 16 bytes.
        masters: the master keys.
        secrets: seals and opens secrets.
    """

    __slots__ = ("_arena", "_randomness", "_root", "masters", "secrets", "store_id")

    def __init__(
        self,
        arena: Arena,
        store_id: bytes,
        root: RootKeys,
        stored: Iterable[StoredMasterKey],
        randomness: Randomness,
    ) -> None:
        self._arena = arena
        self._randomness = randomness
        self.store_id = store_id
        self._root = root
        with ExitStack() as undo:
            undo.callback(root.release)
            self.masters = MasterKeys.load(self._custodians(root), stored)
            undo.callback(self.masters.release)
            self.secrets = SecretKeys(arena, store_id, self.masters, randomness)
            undo.pop_all()

    @classmethod
    def create(
        cls, arena: Arena, draft: KeyslotDraft, identity: Identity, master: str, randomness: Randomness
    ) -> tuple[Keyring, NewStore]:
        """The keys of a new store, with one keyslot and one master key of that name, and what to commit."""
        store_id = randomness.draw(ID_SIZE)
        secret = RootSecret.create(arena, randomness)
        root = RootKeys.derive_from(arena, secret, store_id, randomness)
        try:
            slot = complete_slot(draft, identity, secret, store_id)
            stored = wrap_root(arena, slot, secret, store_id, randomness)
            mac = table_mac(root.slot_mac, store_id, [stored])
            custodian = SoftwareCustody(arena, root.wrapping, store_id, randomness)
            first = custodian.create(master, randomness.draw(ID_SIZE), version=1)
        except BaseException:
            root.release()
            raise
        new = NewStore(store_id=store_id, slot=slot, stored_slot=stored, table_mac=mac, master=first)
        return cls(arena, store_id, root, [first], randomness), new

    @classmethod
    def open(
        cls,
        arena: Arena,
        secret: RootSecret,
        *,
        store_id: bytes,
        slots: Sequence[StoredKeyslot],
        table_mac: bytes,
        master_keys: Sequence[StoredMasterKey],
        randomness: Randomness,
    ) -> Keyring:
        """The keys of a store whose root key came out of a keyslot. Owns ``secret``, even where it raises.

        Raises:
            IntegrityError: the slot table or a master key was changed outside of the agent, or an older copy
                of the table was put in its place.
        """
        keys = RootKeys.derive_from(arena, secret, store_id, randomness)
        try:
            verify_table(keys.slot_mac, store_id, slots, table_mac)
            for stored in master_keys:
                _check_age(stored, secret.version)
        except BaseException:
            keys.release()
            raise
        return cls(arena, store_id, keys, master_keys, randomness)

    def release(self) -> None:
        """Zero every key, but those of a commit under way, which zeroes them itself; again is harmless."""
        self.secrets.release()
        self.masters.release()
        self._root.release()

    @property
    def state(self) -> StateKeys:
        """The keys of the sealed state, which the store's thread uses."""
        return self._root.state

    def complete_slot(self, draft: KeyslotDraft, identity: Identity) -> Keyslot:
        """One more keyslot of this store, with the public key of its identity."""
        return complete_slot(draft, identity, self._root.secret, self.store_id)

    def wrap_root(self, slot: Keyslot) -> StoredKeyslot:
        """Wrap the root key to a new keyslot."""
        return wrap_root(self._arena, slot, self._root.secret, self.store_id, self._randomness)

    def table_mac(self, slots: Sequence[StoredKeyslot]) -> bytes:
        """The MAC of the slot table as it shall be, to be committed together with it."""
        return table_mac(self._root.slot_mac, self.store_id, slots)

    def verify_table(self, slots: Sequence[StoredKeyslot], mac: bytes) -> None:
        """Check a slot table that was read while unlocked, before any slot of it is relied on.

        Raises:
            IntegrityError: it was changed outside of the agent.
        """
        verify_table(self._root.slot_mac, self.store_id, slots, mac)

    def next_root(self) -> RootKeys:
        """A new root key, of the next version; the caller's to release, until ``change_root`` takes it."""
        secret = self._root.secret.following(self._arena, self._randomness)
        return RootKeys.derive_from(self._arena, secret, self.store_id, self._randomness)

    def wrapped_by(
        self, root: RootKeys, slots: Iterable[Keyslot], masters: Iterable[StoredMasterKey]
    ) -> NewRoot:
        """What is to be committed with a new root key.

        Args:
            slots: those that are to unwrap it, of a table that was verified.
            masters: every stored version of every master key.
        """
        stored = tuple(
            wrap_root(self._arena, slot, root.secret, self.store_id, self._randomness) for slot in slots
        )
        return NewRoot(
            slots=stored,
            table_mac=table_mac(root.slot_mac, self.store_id, stored),
            wrapped=self.masters.rewrapped(masters, root.wrapping),
            added=self.masters.successors(self._custodians(root)),
        )

    def change_root(self, root: RootKeys, new: NewRoot) -> None:
        """Work with the root key that was committed; owns it, and gives up the one before."""
        before, self._root = self._root, root
        before.release()
        self.masters.change_hands(self._custodians(root), new.added)

    def __repr__(self) -> str:
        return "<Keyring>"

    def _custodians(self, root: RootKeys) -> dict[Custody, Custodian]:
        return {
            Custody.SOFTWARE: SoftwareCustody(self._arena, root.wrapping, self.store_id, self._randomness)
        }


def _check_age(stored: StoredMasterKey, root_version: int) -> None:
    """Hold the root key that wrapped a master key against the one that a keyslot had."""
    header = read_header(stored.wrapped) if stored.state is not KeyState.DESTROYED else None
    if header is not None and header.key_id == ROOT_WRAP_KEY and header.key_version != root_version:
        raise IntegrityError(
            f"the keyslots hold version {root_version} of the root key, and the store is at version "
            f"{header.key_version}: a copy of the keyslots of another time was put in; restore a backup"
        )
