"""Master keys: the layer between the root key and the data keys of secrets.

A master key has a name, an id that its versions share, and versions. ``wrap`` (``root``) seals each version
in an ``envelope`` record of type ``MASTER_KEY``; its context is the name and, as metadata, id and custody.

What must hold:

- The key is looked up by the id and version that a record's header names; an unknown one is
  ``IntegrityError``, never a reason to try another.
- One version of the default master key is active: it wraps. Others only unwrap.
- A version wraps at most ``WRAPS_PER_MASTER_KEY`` times. Wraps are counted before they are done: a block of
  them is reserved in the store, and only what a committed reservation granted may be used. A crash loses
  the rest of a block, so the count can only be too high.
- Unwrapped master keys live in the arena from ``load`` to ``release``.

It does not reach the store: ``wrap_need`` says what has to be written there, ``granted`` that it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from keyholt_agent.keys.envelope import (
    ID_SIZE,
    KEY_SIZE,
    Context,
    Header,
    KeyReference,
    RecordType,
    bind,
    key_reference,
    make_header,
    open_into,
    seal,
)
from keyholt_agent.keys.states import Custody, KeyState
from keyholt_agent.memory import Arena, Guarded, LockedBuffer
from keyholt_protocol.errors import IntegrityError, InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEFAULT_MASTER",
    "ROOT_WRAP_KEY",
    "WRAPS_PER_MASTER_KEY",
    "MasterKeys",
    "ReserveWraps",
    "RotateMaster",
    "SealedMasterKey",
    "WrappedMasterKey",
    "create_master_key",
]

DEFAULT_MASTER: Final = "default"
"""The name of the master key that every store starts with, and that wraps the data keys of secrets."""

WRAPS_PER_MASTER_KEY: Final = 2**20
"""Wraps of one version. NIST SP 800-38D, 8.3, allows 2^32 random nonces under one key; this keeps the
chance of a repeated nonce below 2^-57, and the harm of one stolen version small."""

WRAP_RESERVATION: Final = 1024
"""Wraps reserved in one commit: its cost is spread thin, and a crash wastes at most one in a thousand."""

ROOT_WRAP_KEY: Final = b"keyholt.rootwrap"
"""The key id, in the records of master keys, of the root-derived key that seals them."""

_ROOT_WRAP_VERSION: Final = 1
_CUSTODY_SOFTWARE: Final = Custody.SOFTWARE.value.encode()


_USABLE: Final = (KeyState.ACTIVE, KeyState.DECRYPT_ONLY, KeyState.COMPROMISED)
"""States in which data keys still have to be unwrapped. A compromised version opens what it sealed until
that is rewrapped."""


class WrappedMasterKey(Protocol):
    """One version of a master key as the store holds it."""

    @property
    def key_id(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def state(self) -> str: ...
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
        state: what it may be used for.
        wraps_reserved: how many wraps the store has granted so far.
        wrapped: the key, sealed.
    """

    key_id: bytes
    name: str
    version: int
    wrapped: bytes
    state: KeyState = KeyState.ACTIVE
    wraps_reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWraps:
    """To be committed before more is wrapped: ``count`` more wraps of a version, ``limit`` in all."""

    key_id: bytes
    version: int
    count: int
    limit: int = WRAPS_PER_MASTER_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateMaster:
    """To be done before more is wrapped: this version is used up, a new one has to take its place."""

    key_id: bytes
    name: str
    version: int


def create_master_key(
    arena: Arena, wrap: memoryview, store_id: bytes, *, name: str, version: int, key_id: bytes | None = None
) -> SealedMasterKey:
    """A new random master key version, sealed by the root-derived ``wrap``; ``key_id`` None: a new id."""
    identity = os.urandom(ID_SIZE) if key_id is None else key_id
    with arena.allocate_random(KEY_SIZE) as key:
        wrapped = seal(wrap, _record_header(version), _context(store_id, name, identity), key.view)
    return SealedMasterKey(key_id=identity, name=name, version=version, wrapped=wrapped)


class MasterKeys(Guarded):
    """The unwrapped master keys of an unlocked store.

    Attributes:
        active_id: id of the default master key.
        active_version: its version that wraps.
        newest_version: the highest of its usable versions; no other may be the active one.
        active: both, as the header of a data key that it wraps begins.
    """

    __slots__ = (
        "_arena",
        "_buffers",
        "_keys",
        "_left",
        "_reserved",
        "active",
        "active_id",
        "active_version",
        "newest_version",
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._buffers: list[LockedBuffer] = []
        self._keys: dict[KeyReference, memoryview] = {}
        self._reserved = 0
        self._left = 0
        self.active_id = b""
        self.active_version = 0
        self.active = KeyReference(b"")
        self.newest_version = 0

    @classmethod
    def load(
        cls, arena: Arena, wrap: memoryview, store_id: bytes, stored: Iterable[WrappedMasterKey]
    ) -> MasterKeys:
        """Unwrap all usable versions.

        Raises:
            IntegrityError: one does not open, or not exactly one version of the default key is active.
        """
        masters = cls(arena)
        try:
            for key in stored:
                masters._load(wrap, store_id, key)
            if not masters.active_version:
                raise IntegrityError("the store has no active master key; restore a backup")
            if masters.active_version != masters.newest_version:
                raise IntegrityError("an older master key version was made active; restore a backup")
        except BaseException:
            masters.release()
            raise
        return masters

    def add(self, wrap: memoryview, store_id: bytes, key: WrappedMasterKey) -> None:
        """Take a new version in force once the store has it; the one before only unwraps from now on."""
        self.active_version = 0
        self._load(wrap, store_id, key)

    def key(self, reference: KeyReference) -> memoryview:
        """The key that a wrapped data key's header names.

        Raises:
            IntegrityError: there is no such key in this store, or the record is no wrapped data key.
        """
        try:
            return self._keys[reference]
        except KeyError:
            raise IntegrityError(
                "a data key is wrapped by a master key that this store does not have, or damaged; "
                "restore a backup"
            ) from None

    def take_wrap(self) -> memoryview:
        """The active key, for one wrap, counted against the budget."""
        if self._left <= 0:
            raise InternalError("a wrap was asked for that was not reserved in the store")
        self._left -= 1
        return self._keys[self.active]

    def wrap_need(self) -> ReserveWraps | RotateMaster | None:
        """What has to be committed before the next wrap; None when it can be done now."""
        if self._left > 0:
            return None
        count = min(WRAP_RESERVATION, WRAPS_PER_MASTER_KEY - self._reserved)
        if count > 0:
            return ReserveWraps(key_id=self.active_id, version=self.active_version, count=count)
        return RotateMaster(key_id=self.active_id, name=DEFAULT_MASTER, version=self.active_version)

    def granted(self, reservation: ReserveWraps) -> None:
        """A reservation was committed: its wraps may be used."""
        if (reservation.key_id, reservation.version) == (self.active_id, self.active_version):
            self._reserved += reservation.count
            self._left += reservation.count

    def release(self) -> None:
        """Zero all keys; again is harmless."""
        self._keys.clear()
        self._left = 0
        while self._buffers:
            self._buffers.pop().release()

    def __repr__(self) -> str:
        return f"<MasterKeys {len(self._keys)} versions>"

    def _load(self, wrap: memoryview, store_id: bytes, stored: WrappedMasterKey) -> None:
        if stored.state not in _USABLE:
            return
        reference = key_reference(RecordType.DATA_KEY, stored.key_id, stored.version)
        if reference not in self._keys:  # caught up with otherwise: what is said of it has changed
            key = _unwrap(self._arena, wrap, store_id, stored)
            self._buffers.append(key)
            self._keys[reference] = key.view
        if stored.name == DEFAULT_MASTER:
            self.newest_version = max(self.newest_version, stored.version)
        if stored.name == DEFAULT_MASTER and stored.state == KeyState.ACTIVE:
            if self.active_version:
                raise IntegrityError("the store has two active master keys; restore a backup")
            self.active_id, self.active_version = stored.key_id, stored.version
            self.active = reference
            self._reserved, self._left = stored.wraps_reserved, 0


def _unwrap(arena: Arena, wrap: memoryview, store_id: bytes, stored: WrappedMasterKey) -> LockedBuffer:
    key = arena.allocate(KEY_SIZE)
    try:
        context = _context(store_id, stored.name, stored.key_id)
        open_into(wrap, stored.wrapped, context, _record_header(stored.version), key.view)
    except BaseException:
        key.release()
        raise
    return key


def _record_header(version: int) -> Header:
    return make_header(RecordType.MASTER_KEY, ROOT_WRAP_KEY, _ROOT_WRAP_VERSION, version)


def _context(store_id: bytes, name: str, key_id: bytes) -> Context:
    return bind(store_id, name, key_id + _CUSTODY_SOFTWARE)
