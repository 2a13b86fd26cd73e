"""Who keeps master keys: makes new versions, and brings stored ones to use.

One custodian a ``Custody``. ``SoftwareCustody`` keeps them wrapped by a root-derived key, and in locked
memory while the store is open; the record's context is the key's name and, as metadata, its id and custody,
so that none of the three can be changed in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from keyholt_agent.key_states import Custody, KeyState
from keyholt_agent.keys.envelope import KEY_SIZE, Context, RecordType, bind, key_reference
from keyholt_agent.keys.wrapping_key import SoftwareKey, WrappingKey

if TYPE_CHECKING:
    from keyholt_agent.keys.randomness import Randomness
    from keyholt_agent.memory import Arena

__all__ = ["Custodian", "SealedMasterKey", "SoftwareCustody", "StoredMasterKey"]


class StoredMasterKey(Protocol):
    """One version of a master key as the store holds it."""

    @property
    def key_id(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def state(self) -> KeyState: ...
    @property
    def custody(self) -> Custody: ...
    @property
    def wraps_reserved(self) -> int: ...
    @property
    def wrapped(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedMasterKey:
    """A new version of a master key, for the store.

    Attributes:
        key_id: 16 bytes, the same for all versions of the key.
        name: what it is called.
        version: from 1.
        custody: where it lives.
        wrapped: what its custodian needs to bring it to use again.
        state: what it may be used for.
        wraps_reserved: how many wraps the store has granted so far.
    """

    key_id: bytes
    name: str
    version: int
    custody: Custody
    wrapped: bytes
    state: KeyState = KeyState.ACTIVE
    wraps_reserved: int = 0


class Custodian(Protocol):
    """Keeps the versions of master keys of one custody."""

    def create(self, name: str, key_id: bytes, version: int) -> SealedMasterKey:
        """A new random version, for the store."""
        ...

    def open(self, stored: StoredMasterKey) -> WrappingKey:
        """The key of a stored version, the caller's to release.

        Raises:
            IntegrityError: it is not one that this custodian made for this store.
        """
        ...

    def rewrapped(self, stored: StoredMasterKey, wrapping: SoftwareKey) -> bytes:
        """What the store is to hold of a version when another root-derived key wraps.

        Raises:
            IntegrityError: it is not one that this custodian made for this store.
        """
        ...


class SoftwareCustody:
    """Wrapped by ``wrapping``, and held in the arena while in use.

    Args:
        wrapping: the root-derived key; not owned.
    """

    def __init__(self, arena: Arena, wrapping: SoftwareKey, store_id: bytes, randomness: Randomness) -> None:
        self._arena = arena
        self._wrapping = wrapping
        self._store_id = store_id
        self._randomness = randomness

    def create(self, name: str, key_id: bytes, version: int) -> SealedMasterKey:
        with self._arena.allocate(KEY_SIZE) as key:
            self._randomness.fill(key)
            wrapped = self._wrapping.wrap(version, self._context(name, key_id), key.view)
        return SealedMasterKey(
            key_id=key_id, name=name, version=version, custody=Custody.SOFTWARE, wrapped=wrapped
        )

    def open(self, stored: StoredMasterKey) -> SoftwareKey:
        key = self._arena.allocate(KEY_SIZE, lasting=True)
        try:
            context = self._context(stored.name, stored.key_id)
            self._wrapping.unwrap(stored.wrapped, stored.version, context, key.view)
        except BaseException:
            key.release()
            raise
        reference = key_reference(RecordType.DATA_KEY, stored.key_id, stored.version)
        return SoftwareKey(key, reference, self._randomness)

    def rewrapped(self, stored: StoredMasterKey, wrapping: SoftwareKey) -> bytes:
        context = self._context(stored.name, stored.key_id)
        with self._arena.allocate(KEY_SIZE) as key:
            self._wrapping.unwrap(stored.wrapped, stored.version, context, key.view)
            return wrapping.wrap(stored.version, context, key.view)

    def _context(self, name: str, key_id: bytes) -> Context:
        return bind(self._store_id, name, key_id + Custody.SOFTWARE.value.encode())
