"""One named master key: its versions, which of them wraps, and leave to wrap with it.

- One version is active: it wraps. The others only unwrap. The active one is the newest that can be used: an
  older one put in force again, one that is compromised say, is damage.
- Who wraps has a ``WrapPermit``: a wrap of the budget, taken when it was given, good for one wrap, and for
  nothing once its version is no longer the active one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyholt_agent.key_states import Custody, KeyState
from keyholt_agent.keys.budget import WrapBudget
from keyholt_agent.memory import Guarded
from keyholt_protocol.errors import IntegrityError, InternalError, LockedError

if TYPE_CHECKING:
    from keyholt_agent.keys.custody import StoredMasterKey
    from keyholt_agent.keys.wrapping_key import WrappingKey

__all__ = ["ActiveVersion", "MasterKey", "ReserveWraps", "RotateMaster", "WrapPermit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWraps:
    """To be committed before more is wrapped: ``count`` more wraps of a version, ``limit`` in all."""

    key_id: bytes
    version: int
    count: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateMaster:
    """To be done before more is wrapped: this version is used up, a new one has to take its place."""

    name: str
    key_id: bytes
    version: int
    custody: Custody


class ActiveVersion(Guarded):
    """The version of a master key that wraps.

    Attributes:
        key_id: of the master key.
        version: its number.
        custody: where it lives.
        key: what wraps.
        budget: how often it still may.
    """

    __slots__ = ("budget", "custody", "key", "key_id", "version")

    def __init__(self, stored: StoredMasterKey, key: WrappingKey) -> None:
        self.key_id = stored.key_id
        self.version = stored.version
        self.custody = stored.custody
        self.key = key
        self.budget = WrapBudget(stored.wraps_reserved)

    def __repr__(self) -> str:
        return f"<ActiveVersion {self.version}>"


class WrapPermit:
    """Leave to wrap one key; made by ``MasterKey.permit``, used up by ``use``."""

    __slots__ = ("_master", "_version")

    def __init__(self, master: MasterKey, version: ActiveVersion) -> None:
        self._master: MasterKey | None = master
        self._version = version

    @property
    def in_force(self) -> bool:
        """Whether its version still is the one that wraps, and it was not used."""
        return self._master is not None and self._master.active is self._version

    def use(self) -> ActiveVersion:
        """The version to wrap with, once.

        Raises:
            LockedError: the agent was locked since the permit was given.
            InternalError: it was used before, or its version was retired since.
        """
        master, self._master = self._master, None
        if master is None:
            raise InternalError("a permit to wrap was used twice")
        if master.active is not self._version:
            if master.active is None:
                raise LockedError
            raise InternalError("a permit to wrap is of a version that was retired; take another one")
        return self._version


class MasterKey(Guarded):
    """One named master key of an open store; owns the keys of its versions until ``release``.

    Attributes:
        name: what it is called.
        key_id: 16 bytes, the same for all its versions.
        active: the version that wraps; None once released.
    """

    __slots__ = ("_keys", "active", "key_id", "name")

    def __init__(self, name: str, key_id: bytes) -> None:
        self.name = name
        self.key_id = key_id
        self.active: ActiveVersion | None = None
        self._keys: dict[int, WrappingKey] = {}

    def key(self, version: int) -> WrappingKey | None:
        """The key of a version that can be used; None if there is no such version."""
        return self._keys.get(version)

    def load(self, stored: StoredMasterKey, key: WrappingKey) -> None:
        """Own the key of a stored version; see ``check``.

        Raises:
            IntegrityError: it is the second one that is active.
        """
        self._keys[stored.version] = key
        if stored.state is KeyState.ACTIVE:
            if self.active is not None:
                raise IntegrityError(f"the store has two active versions of {self.name!r}; restore a backup")
            self.active = ActiveVersion(stored, key)

    def check(self) -> None:
        """Hold what was loaded against the rules.

        Raises:
            IntegrityError: no version is active, or not the newest.
        """
        if self.active is None:
            raise IntegrityError(f"the store has no active version of {self.name!r}; restore a backup")
        if self.active.version != max(self._keys):
            raise IntegrityError(f"an older version of {self.name!r} was made active; restore a backup")

    def put_in_force(self, stored: StoredMasterKey, key: WrappingKey) -> None:
        """Own the key of the version that is active in the store: it wraps now, the one before no more."""
        self._keys[stored.version] = key
        self.active = ActiveVersion(stored, key)

    def need(self) -> ReserveWraps | RotateMaster | None:
        """What has to be committed before ``permit``; None when it can be given now."""
        active = self._in_force()
        count = active.budget.shortage()
        if count is None:
            return None
        if count:
            return ReserveWraps(
                key_id=self.key_id, version=active.version, count=count, limit=active.budget.limit
            )
        return RotateMaster(
            name=self.name, key_id=self.key_id, version=active.version, custody=active.custody
        )

    def permit(self) -> WrapPermit:
        """Leave to wrap one key, counted against the budget whether or not it is used.

        Raises:
            InternalError: ``need`` was not met.
        """
        active = self._in_force()
        active.budget.take()
        return WrapPermit(self, active)

    def granted(self, reservation: ReserveWraps) -> None:
        """A reservation of ``need`` was committed; that of a version retired since is worth nothing."""
        if self.active is not None and self.active.version == reservation.version:
            self.active.budget.grant(reservation.count)

    def release(self) -> None:
        """Give up all keys; again is harmless."""
        self.active = None
        while self._keys:
            self._keys.popitem()[1].release()

    def __repr__(self) -> str:
        return f"<MasterKey {len(self._keys)} versions>"

    def _in_force(self) -> ActiveVersion:
        if self.active is None:
            raise LockedError
        return self.active
