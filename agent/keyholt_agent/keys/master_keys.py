"""All master keys of an open store, by name, and by what a record says of the key that wrapped it.

- The key is looked up by the id and version that a record names; an unknown one is ``IntegrityError``, never
  a reason to try another.
- Where a key lives decides who opens it: one custodian a custody.
- It does not reach the store: it takes stored rows, and gives new versions to commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyholt_agent.key_states import Custody, KeyState
from keyholt_agent.keys.envelope import KeyReference, RecordType, key_reference
from keyholt_agent.keys.master_key import MasterKey, RotateMaster
from keyholt_agent.memory import Guarded
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyholt_agent.keys.custody import Custodian, SealedMasterKey, StoredMasterKey
    from keyholt_agent.keys.wrapping_key import SoftwareKey, WrappingKey

__all__ = ["MasterKeys"]

_USABLE: Final = (KeyState.ACTIVE, KeyState.DECRYPT_ONLY, KeyState.COMPROMISED)
"""States in which data keys still have to be unwrapped. A compromised version opens what it sealed until
that is rewrapped."""


class MasterKeys(Guarded):
    """The master keys of an open store, owned until ``release``.

    Args:
        custodians: who opens and makes keys, by where they live.
    """

    __slots__ = ("_by_name", "_by_reference", "_custodians")

    def __init__(self, custodians: Mapping[Custody, Custodian]) -> None:
        self._custodians = custodians
        self._by_name: dict[str, MasterKey] = {}
        self._by_reference: dict[KeyReference, WrappingKey] = {}

    @classmethod
    def load(cls, custodians: Mapping[Custody, Custodian], stored: Iterable[StoredMasterKey]) -> MasterKeys:
        """Open every version that can be used.

        Raises:
            IntegrityError: one does not open, or a key's active version is not exactly one, the newest.
        """
        masters = cls(custodians)
        try:
            for version in stored:
                if version.state in _USABLE:
                    masters._named(version).load(version, masters._opened(version))
            for master in masters._by_name.values():
                master.check()
        except BaseException:
            masters.release()
            raise
        return masters

    def named(self, name: str) -> MasterKey:
        """The master key of that name.

        Raises:
            IntegrityError: the store has none, or none that can be used.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise IntegrityError(f"the store has no master key {name!r}; restore a backup") from None

    def referenced(self, reference: KeyReference) -> WrappingKey:
        """The key that a wrapped data key names.

        Raises:
            IntegrityError: there is no such key in this store, or the record is no wrapped data key.
        """
        try:
            return self._by_reference[reference]
        except KeyError:
            raise IntegrityError(
                "a data key is wrapped by a master key that this store does not have, or damaged; "
                "restore a backup"
            ) from None

    def next_version(self, rotation: RotateMaster) -> SealedMasterKey:
        """A new version of a key that is used up, to be committed and then ``put_in_force``."""
        custodian = self._custodian(rotation.custody)
        return custodian.create(rotation.name, rotation.key_id, rotation.version + 1)

    def rewrapped(
        self, stored: Iterable[StoredMasterKey], wrapping: SoftwareKey
    ) -> dict[tuple[bytes, int], bytes]:
        """Each stored version, by its id and number, as it is to be stored when another key wraps."""
        return {
            (one.key_id, one.version): (
                self._custodian(one.custody).rewrapped(one, wrapping) if one.state in _USABLE else one.wrapped
            )
            for one in stored
        }

    def successors(self, custodians: Mapping[Custody, Custodian]) -> tuple[SealedMasterKey, ...]:
        """A new version of each key, made by those who are to keep them next; to be committed."""
        active = [(master.name, master.active) for master in self._by_name.values() if master.active]
        return tuple(
            custodians[version.custody].create(name, version.key_id, version.version + 1)
            for name, version in active
        )

    def change_hands(self, custodians: Mapping[Custody, Custodian], added: Iterable[SealedMasterKey]) -> None:
        """Have others keep the keys from now on, and wrap with the versions that they made."""
        self._custodians = custodians
        for version in added:
            self.put_in_force(version)

    def put_in_force(self, stored: StoredMasterKey) -> None:
        """Wrap with the version that the store says is active; one that is known already is held once."""
        master = self._named(stored)
        master.put_in_force(stored, master.key(stored.version) or self._opened(stored))

    def release(self) -> None:
        """Give up all keys; again is harmless."""
        self._by_reference.clear()
        while self._by_name:
            self._by_name.popitem()[1].release()

    def __repr__(self) -> str:
        return f"<MasterKeys {len(self._by_reference)} versions>"

    def _named(self, stored: StoredMasterKey) -> MasterKey:
        master = self._by_name.setdefault(stored.name, MasterKey(stored.name, stored.key_id))
        if master.key_id != stored.key_id:
            raise IntegrityError(f"the store has two master keys {stored.name!r}; restore a backup")
        return master

    def _opened(self, stored: StoredMasterKey) -> WrappingKey:
        reference = key_reference(RecordType.DATA_KEY, stored.key_id, stored.version)
        if reference in self._by_reference:
            raise IntegrityError(f"the store has a version of {stored.name!r} twice; restore a backup")
        key = self._by_reference[reference] = self._custodian(stored.custody).open(stored)
        return key

    def _custodian(self, custody: Custody) -> Custodian:
        try:
            return self._custodians[custody]
        except KeyError:
            raise IntegrityError(
                f"a master key has the custody {custody.value!r}, which this agent does not offer"
            ) from None
