"""The keyring: what an unlocked agent holds, and the sealing and opening of secrets with it.

- Locked, it holds no key: every use is ``LockedError``. Unlocked, it owns the root key, its two derived keys,
  the master keys and one slot in which the data key of the operation at hand lives.
- ``install`` takes nothing over unless the whole chain holds: slot table, every master key.
- ``lock`` zeroes all of it before it returns.
- Sealing and opening run inline, in microseconds, on the one thread that owns the keyring.

It reads and writes no store: it takes stored records and gives new ones to commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keyholt_agent.keys.envelope import (
    ANONYMOUS_KEY,
    KEY_SIZE,
    Context,
    Header,
    RecordType,
    bind,
    header_under,
    key_reference,
    open_into,
    plaintext_size,
    referenced_key,
    seal,
)
from keyholt_agent.keys.hierarchy import (
    DEFAULT_MASTER,
    MasterKeys,
    ReserveWraps,
    RotateMaster,
    SealedMasterKey,
    WrappedMasterKey,
    create_master_key,
)
from keyholt_agent.keys.root import RootKeys, create_root
from keyholt_agent.keys.slots import Keyslot, SealedKeyslot, seal_slot, table_mac, verify_table
from keyholt_agent.memory import Arena, Guarded, LockedBuffer
from keyholt_agent.memory.syscalls import fill_random
from keyholt_protocol.errors import LockedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Founding", "Keyring", "SealedSecret"]

_ZEROES: Final = bytes(KEY_SIZE)

_DATA_KEY_BESIDE: Final = key_reference(RecordType.SECRET_VALUE, ANONYMOUS_KEY, 0)
"""How a value names its key: the data key in the same row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """One sealed secret version, for the store: the wrapped data key, the value, and who wrapped it."""

    wrapped_key: bytes
    value: bytes
    master_id: bytes
    master_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """What a new store starts with."""

    slot: SealedKeyslot
    table_mac: bytes
    master: SealedMasterKey


class Keyring(Guarded):
    """The keys of the one store that an agent serves. See the module for its rules."""

    __slots__ = ("_arena", "_open")

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._open: _OpenStore | None = None

    @property
    def unlocked(self) -> bool:
        """Whether the root key is in memory."""
        return self._open is not None

    def found(self, store_id: bytes, slot: Keyslot, slot_key: memoryview) -> Founding:
        """Unlock with a new root key, and give what has to be committed; ``lock`` if that fails."""
        root = RootKeys.derive_from(self._arena, create_root(self._arena))
        try:
            sealed = seal_slot(slot, slot_key, root.root, store_id)
            master = create_master_key(self._arena, root.wrap, store_id, name=DEFAULT_MASTER, version=1)
            mac = table_mac(root.slot_mac, store_id, [sealed])
        except BaseException:
            root.release()
            raise
        self._take(store_id, root, [master])
        return Founding(slot=sealed, table_mac=mac, master=master)

    def install(
        self,
        root: LockedBuffer,
        *,
        store_id: bytes,
        slots: Sequence[SealedKeyslot],
        table_mac: bytes,
        master_keys: Sequence[WrappedMasterKey],
    ) -> None:
        """Unlock with the root key out of a keyslot. Owns ``root`` from here on, even where it raises.

        Raises:
            IntegrityError: the slot table or a master key was changed outside of the agent. What the
                keyring held before stays in force.
        """
        keys = RootKeys.derive_from(self._arena, root)
        try:
            verify_table(keys.slot_mac, store_id, slots, table_mac)
        except BaseException:
            keys.release()
            raise
        self._take(store_id, keys, master_keys)

    def lock(self) -> None:
        """Zero every key; again is harmless."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.release()

    def seal_secret(self, path: str, version: int, metadata: bytes, plaintext: memoryview) -> SealedSecret:
        """Seal one secret version under a new data key.

        ``wrap_need`` must have been None just before, with no checkpoint in between.

        Raises:
            LockedError: the agent is locked.
        """
        opened = self._unlocked()
        masters = opened.masters
        context = bind(opened.store_id, path, metadata)
        data_key = opened.data_key.view
        try:
            fill_random(opened.data_key.address, KEY_SIZE)
            header = header_under(masters.active, version)
            return SealedSecret(
                wrapped_key=seal(masters.take_wrap(), header, context, data_key),
                value=seal(data_key, _value_header(version), context, plaintext),
                master_id=masters.active_id,
                master_version=masters.active_version,
            )
        finally:
            data_key[:] = _ZEROES

    def open_secret(
        self, path: str, version: int, metadata: bytes, wrapped_key: bytes, value: bytes
    ) -> LockedBuffer:
        """The value of one secret version, the caller's to release.

        Raises:
            LockedError: the agent is locked.
            IntegrityError: a record is not what was sealed at this path, version and metadata.
            ResourceExhaustedError: no locked memory for the value.
        """
        opened = self._unlocked()
        context = bind(opened.store_id, path, metadata)
        data_key = opened.data_key.view
        target = self._arena.allocate(plaintext_size(value))
        try:
            _unwrap_data_key(opened.masters, wrapped_key, context, version, data_key)
            open_into(data_key, value, context, _value_header(version), target.view)
        except BaseException:
            target.release()
            raise
        finally:
            data_key[:] = _ZEROES
        return target

    def seal_slot(self, slot: Keyslot, slot_key: memoryview) -> SealedKeyslot:
        """Wrap the root key for one more keyslot."""
        opened = self._unlocked()
        return seal_slot(slot, slot_key, opened.root.root, opened.store_id)

    def table_mac(self, slots: Sequence[SealedKeyslot]) -> bytes:
        """The MAC of the slot table as it shall be, to be committed together with it."""
        opened = self._unlocked()
        return table_mac(opened.root.slot_mac, opened.store_id, slots)

    def verify_table(self, slots: Sequence[SealedKeyslot], mac: bytes) -> None:
        """Check a slot table that was read while unlocked, before any slot of it is relied on.

        Raises:
            IntegrityError: it was changed outside of the agent.
        """
        opened = self._unlocked()
        verify_table(opened.root.slot_mac, opened.store_id, slots, mac)

    def wrap_need(self) -> ReserveWraps | RotateMaster | None:
        """What has to be committed before the next ``seal_secret``; None when it can be done now."""
        return self._unlocked().masters.wrap_need()

    def wraps_granted(self, reservation: ReserveWraps) -> None:
        """A reservation of ``wrap_need`` was committed."""
        self._unlocked().masters.granted(reservation)

    def next_master(self, rotation: RotateMaster) -> SealedMasterKey:
        """A new version of a master key, to be committed and then given to ``add_master``."""
        opened = self._unlocked()
        return create_master_key(
            self._arena,
            opened.root.wrap,
            opened.store_id,
            name=rotation.name,
            version=rotation.version + 1,
            key_id=rotation.key_id,
        )

    def add_master(self, master: WrappedMasterKey) -> None:
        """A new active version was committed: wrap with it from now on."""
        opened = self._unlocked()
        opened.masters.add(opened.root.wrap, opened.store_id, master)

    def __repr__(self) -> str:
        return f"<Keyring {'unlocked' if self.unlocked else 'locked'}>"

    def _unlocked(self) -> _OpenStore:
        if self._open is None:
            raise LockedError
        return self._open

    def _take(self, store_id: bytes, root: RootKeys, masters: Sequence[WrappedMasterKey]) -> None:
        """Hold these keys instead of those before; owns ``root`` even where it raises."""
        try:
            opened = _OpenStore(self._arena, store_id, root, masters)
        except BaseException:
            root.release()
            raise
        self.lock()
        self._open = opened


class _OpenStore(Guarded):
    """The keys of an unlocked store, owned together."""

    __slots__ = ("data_key", "masters", "root", "store_id")

    def __init__(
        self, arena: Arena, store_id: bytes, root: RootKeys, masters: Sequence[WrappedMasterKey]
    ) -> None:
        self.store_id = store_id
        self.root = root
        self.masters = MasterKeys.load(arena, root.wrap, store_id, masters)
        try:
            # One slot for every operation's data key: they run one at a time, and each wipes it.
            self.data_key = arena.allocate(KEY_SIZE)
        except BaseException:
            self.masters.release()
            raise

    def release(self) -> None:
        self.data_key.release()
        self.masters.release()
        self.root.release()

    def __repr__(self) -> str:
        return "<_OpenStore>"


def _value_header(version: int) -> Header:
    return header_under(_DATA_KEY_BESIDE, version)


def _unwrap_data_key(
    masters: MasterKeys, wrapped_key: bytes, context: Context, version: int, data_key: memoryview
) -> None:
    """Open a data key with the master key that its own header names."""
    reference = referenced_key(wrapped_key)
    key = masters.key(reference)
    open_into(key, wrapped_key, context, header_under(reference, version), data_key)
