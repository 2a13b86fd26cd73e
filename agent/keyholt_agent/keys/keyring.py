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

from keyholt_agent.key_states import Custody
from keyholt_agent.keys.custody import SealedMasterKey, SoftwareCustody
from keyholt_agent.keys.envelope import ID_SIZE
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
from keyholt_agent.keys.root import RootKeys
from keyholt_agent.keys.root_secret import RootSecret
from keyholt_agent.keys.secrets import SecretKeys
from keyholt_agent.memory import Guarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyholt_agent.keys.custody import StoredMasterKey
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.keys.recipients import Identity
    from keyholt_agent.memory import Arena

__all__ = ["Keyring", "NewStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStore:
    """What a new store starts with, to be committed."""

    store_id: bytes
    slot: Keyslot
    stored_slot: StoredKeyslot
    table_mac: bytes
    master: SealedMasterKey


class Keyring(Guarded):
    """The keys of one unlocked store. See the module for its rules.

    Attributes:
        store_id: 16 bytes.
        masters: the master keys.
        secrets: seals and opens secrets.
    """

    __slots__ = ("_arena", "_randomness", "_root", "_secret", "masters", "secrets", "store_id")

    def __init__(
        self,
        arena: Arena,
        store_id: bytes,
        secret: RootSecret,
        root: RootKeys,
        stored: Iterable[StoredMasterKey],
        *,
        randomness: Randomness,
    ) -> None:
        self._arena = arena
        self._randomness = randomness
        self.store_id = store_id
        self._secret = secret
        self._root = root
        custodians = {Custody.SOFTWARE: SoftwareCustody(arena, root.wrapping, store_id, randomness)}
        with ExitStack() as undo:
            undo.callback(secret.release)
            undo.callback(root.release)
            self.masters = MasterKeys.load(custodians, stored)
            undo.callback(self.masters.release)
            self.secrets = SecretKeys(arena, store_id, self.masters, randomness)
            undo.pop_all()

    @classmethod
    def create(
        cls, arena: Arena, draft: KeyslotDraft, identity: Identity, master: str, randomness: Randomness
    ) -> tuple[Keyring, NewStore]:
        """The keys of a new store, with one keyslot and one master key of that name, and what to commit."""
        store_id = randomness.draw(ID_SIZE)
        with ExitStack() as undo:
            secret = undo.enter_context(RootSecret.create(arena, randomness))
            root = RootKeys.derive_from(arena, secret.key, randomness)
            undo.callback(root.release)
            slot = complete_slot(draft, identity, secret, store_id)
            stored = wrap_root(arena, slot, secret, store_id, randomness)
            mac = table_mac(root.slot_mac, store_id, [stored])
            custodian = SoftwareCustody(arena, root.wrapping, store_id, randomness)
            first = custodian.create(master, randomness.draw(ID_SIZE), version=1)
            undo.pop_all()
        new = NewStore(store_id=store_id, slot=slot, stored_slot=stored, table_mac=mac, master=first)
        return cls(arena, store_id, secret, root, [first], randomness=randomness), new

    @classmethod
    def open(
        cls,
        arena: Arena,
        secret: RootSecret,
        *,
        store_id: bytes,
        slots: Sequence[StoredKeyslot],
        table_mac: bytes,
        master_keys: Iterable[StoredMasterKey],
        randomness: Randomness,
    ) -> Keyring:
        """The keys of a store whose root key came out of a keyslot. Owns ``secret``, even where it raises.

        Raises:
            IntegrityError: the slot table or a master key was changed outside of the agent.
        """
        with ExitStack() as undo:
            undo.enter_context(secret)
            keys = RootKeys.derive_from(arena, secret.key, randomness)
            undo.callback(keys.release)
            verify_table(keys.slot_mac, store_id, slots, table_mac)
            undo.pop_all()
        return cls(arena, store_id, secret, keys, master_keys, randomness=randomness)

    def release(self) -> None:
        """Zero every key; again is harmless."""
        self.secrets.release()
        self.masters.release()
        self._root.release()
        self._secret.release()

    def complete_slot(self, draft: KeyslotDraft, identity: Identity) -> Keyslot:
        """One more keyslot of this store, with the public key of its identity."""
        return complete_slot(draft, identity, self._secret, self.store_id)

    def wrap_root(self, slot: Keyslot) -> StoredKeyslot:
        """Wrap the root key to a keyslot of a table that was verified, or to a new one."""
        return wrap_root(self._arena, slot, self._secret, self.store_id, self._randomness)

    def table_mac(self, slots: Sequence[StoredKeyslot]) -> bytes:
        """The MAC of the slot table as it shall be, to be committed together with it."""
        return table_mac(self._root.slot_mac, self.store_id, slots)

    def verify_table(self, slots: Sequence[StoredKeyslot], mac: bytes) -> None:
        """Check a slot table that was read while unlocked, before any slot of it is relied on.

        Raises:
            IntegrityError: it was changed outside of the agent.
        """
        verify_table(self._root.slot_mac, self.store_id, slots, mac)

    def __repr__(self) -> str:
        return "<Keyring>"
