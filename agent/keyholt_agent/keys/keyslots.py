"""Keyslots: the ways to the root key, and the table that holds them.

A keyslot's header, kept in clear beside the wrapped root key, integers big-endian:

======  =====  ============  ==============================================================
offset  bytes  field         meaning
======  =====  ============  ==============================================================
0       4      magic         ``KHKS``
4       1      format        1
5       1      kind          a ``SlotKind``
6       16     slot id       random; the key id in the wrapped root key's record
22      8      created       seconds since 1970
30      2      name length   bytes
32      n      name          UTF-8
32+n    2      length        bytes of the parameters
34+n    m      parameters    of the kind; ``kdf.Argon2Parameters.encode`` for a passphrase
======  =====  ============  ==============================================================

The wrapped root key is an ``envelope`` record of type ``ROOT_KEY`` whose context is the slot's name and,
as metadata, this whole header: parameters that were changed open nothing.

The table's MAC is HMAC-SHA-256 under a root-derived key over

=====  ==========================================================================
bytes  field
=====  ==========================================================================
24     ``keyholt slot table v1`` and three zeroes
16     store id
4      number of slots
..     per slot by rising header: length u32, header, length u32, wrapped root key
=====  ==========================================================================

What must hold:

- One encoding a value: what ``Keyslot.decode`` accepts, ``encode`` gives back to the byte.
- Parameters are bounded before work is done for them. They are authentic only once the slot has opened.
- Deriving a slot's key may take seconds and runs in a worker thread; wrapping and unwrapping take
  microseconds and run where the root key is owned.
- A caller learns only that a slot did not open (``UnlockFailedError``), or that the store is damaged
  (``IntegrityError``).
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from keyholt_agent.keys import kdf
from keyholt_agent.keys.envelope import (
    ID_SIZE,
    KEY_SIZE,
    OVERHEAD,
    RecordType,
    bind,
    header_under,
    key_reference,
)
from keyholt_agent.keys.wrapping_key import SoftwareKey
from keyholt_agent.memory import Arena, Guarded, LockedBuffer
from keyholt_protocol.errors import IntegrityError, UnlockFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyholt_agent.keys.envelope import KeyReference
    from keyholt_agent.keys.randomness import Randomness

__all__ = [
    "Keyslot",
    "PassphraseSource",
    "SlotKeySource",
    "SlotKind",
    "StoredKeyslot",
    "derive_slot_key",
    "open_slot",
    "passphrase_slot",
    "table_mac",
    "verify_table",
    "wrap_root",
]

_MAGIC: Final = b"KHKS"
_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">4sBB16sQ")
_SHORT: Final = struct.Struct(">H")
_LONG: Final = struct.Struct(">I")
_TABLE_LABEL: Final = b"keyholt slot table v1\0\0\0"

_WRAPPED_SIZE: Final = KEY_SIZE + OVERHEAD
_KEY_VERSION: Final = 1
"""A slot's key never changes: a new passphrase is a new slot."""

_ROOT_VERSION: Final = 1


class SlotKind(IntEnum):
    """How a slot's key is come by. The number is stored: it is never reused."""

    PASSPHRASE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyslot:
    """The header of a keyslot.

    Attributes:
        kind: how its key is come by.
        slot_id: 16 random bytes.
        created: seconds since 1970.
        name: what its owner calls it.
        parameters: of the kind, encoded.
    """

    kind: SlotKind
    slot_id: bytes
    created: int
    name: str
    parameters: bytes

    def encode(self) -> bytes:
        """The header's only encoding (the module's first table)."""
        name = self.name.encode()
        head = _HEAD.pack(_MAGIC, _FORMAT, self.kind, self.slot_id, self.created)
        return b"".join(
            (head, _SHORT.pack(len(name)), name, _SHORT.pack(len(self.parameters)), self.parameters)
        )

    @property
    def reference(self) -> KeyReference:
        """How the record begins in which the slot's key wraps the root key."""
        return key_reference(RecordType.ROOT_KEY, self.slot_id, _KEY_VERSION)

    def describe(self) -> str:
        """Its key derivation and what that costs, for people.

        Raises:
            IntegrityError: the parameters are damaged or out of bounds.
        """
        costs, _ = kdf.Argon2Parameters.decode(self.parameters)
        return f"argon2id t={costs.time} m={costs.memory // 1024}MiB p={costs.parallelism}"

    @classmethod
    def decode(cls, encoded: bytes) -> Keyslot:
        """The keyslot of a stored header, not yet authenticated.

        Raises:
            IntegrityError: not what ``encode`` makes, or of a kind or format that this agent does not know.
        """
        try:
            magic, version, kind, slot_id, created = _HEAD.unpack_from(encoded)
            name, rest = _take(encoded[_HEAD.size :])
            parameters, rest = _take(rest)
            if magic != _MAGIC or version != _FORMAT or rest:
                raise IntegrityError("a keyslot's header is damaged or of a newer format")
            return cls(
                kind=SlotKind(kind),
                slot_id=slot_id,
                created=created,
                name=name.decode(),
                parameters=parameters,
            )
        except (struct.error, ValueError):
            raise IntegrityError(
                "a keyslot's header is damaged, or of a kind unknown to this agent"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKeyslot:
    """What the store keeps of a keyslot: its encoded ``header``, and the root key wrapped by its key."""

    header: bytes
    wrapped_root: bytes


class SlotKeySource(Protocol):
    """What a person or a device brings to open a slot; one implementation a kind."""

    @property
    def kind(self) -> SlotKind:
        """The kind of slot that it opens."""
        ...

    def derive(self, parameters: bytes, target: memoryview) -> None:
        """Write the slot's key to ``target``, 32 bytes of locked memory. May block; runs in a thread."""
        ...


class PassphraseSource(Guarded):
    """A passphrase in locked memory, which the caller keeps until the derivation has returned."""

    __slots__ = ("_passphrase",)

    def __init__(self, passphrase: memoryview) -> None:
        self._passphrase = passphrase

    @property
    def kind(self) -> SlotKind:
        return SlotKind.PASSPHRASE

    def derive(self, parameters: bytes, target: memoryview) -> None:
        """Argon2id with the slot's parameters."""
        costs, salt = kdf.Argon2Parameters.decode(parameters)
        kdf.derive(self._passphrase, salt, costs, target)

    def __repr__(self) -> str:
        return "<PassphraseSource>"


def passphrase_slot(name: str, created: int, costs: kdf.Argon2Parameters, randomness: Randomness) -> Keyslot:
    """A new passphrase keyslot with a new id and salt."""
    return Keyslot(
        kind=SlotKind.PASSPHRASE,
        slot_id=randomness.draw(ID_SIZE),
        created=created,
        name=name,
        parameters=costs.encode(randomness.draw(kdf.SALT_SIZE)),
    )


def derive_slot_key(
    arena: Arena, slot: Keyslot, source: SlotKeySource, randomness: Randomness
) -> SoftwareKey:
    """The key of a slot, the caller's to release. Blocks: call it in a worker thread.

    Raises:
        UnlockFailedError: the slot is of another kind than the source opens.
        IntegrityError: the slot's parameters are damaged or out of bounds.
        ResourceExhaustedError: no memory for the derivation.
    """
    if slot.kind is not source.kind:
        raise UnlockFailedError(
            f"keyslot {slot.name!r} is of kind {slot.kind.name.lower()}; give what it takes"
        )
    key = arena.allocate(KEY_SIZE)
    try:
        source.derive(slot.parameters, key.view)
    except BaseException:
        key.release()
        raise
    return SoftwareKey(key, slot.reference, randomness)


def wrap_root(slot: Keyslot, slot_key: SoftwareKey, root: memoryview, store_id: bytes) -> StoredKeyslot:
    """Wrap the root key under a slot's key."""
    header = slot.encode()
    wrapped = slot_key.wrap(_ROOT_VERSION, bind(store_id, slot.name, header), root)
    return StoredKeyslot(header=header, wrapped_root=wrapped)


def open_slot(arena: Arena, stored: StoredKeyslot, slot_key: SoftwareKey, store_id: bytes) -> LockedBuffer:
    """The root key out of a slot, the caller's to release.

    Raises:
        UnlockFailedError: the key does not open it; for a passphrase: it is wrong.
        IntegrityError: the stored slot is not one.
    """
    slot = Keyslot.decode(stored.header)
    expected = header_under(slot.reference, _ROOT_VERSION)
    if not stored.wrapped_root.startswith(expected) or len(stored.wrapped_root) != _WRAPPED_SIZE:
        raise IntegrityError("a keyslot's wrapped root key does not belong to its header")
    root = arena.allocate(KEY_SIZE)
    try:
        context = bind(store_id, slot.name, stored.header)
        slot_key.unwrap(stored.wrapped_root, _ROOT_VERSION, context, root.view)
    except IntegrityError:
        root.release()
        raise UnlockFailedError from None
    return root


def table_mac(slot_mac: memoryview, store_id: bytes, slots: Iterable[StoredKeyslot]) -> bytes:
    """The MAC over all keyslots of a store, 32 bytes; their order does not matter."""
    ordered = sorted((slot.header, slot.wrapped_root) for slot in slots)
    parts = [_TABLE_LABEL, store_id, _LONG.pack(len(ordered))]
    for slot in ordered:
        for field in slot:
            parts += (_LONG.pack(len(field)), field)
    # One-shot, in C: measured to leave no copy of the key. The message holds nothing secret.
    return hmac.digest(slot_mac, b"".join(parts), "sha256")


def verify_table(slot_mac: memoryview, store_id: bytes, slots: Iterable[StoredKeyslot], mac: bytes) -> None:
    """Check the table once the root key is there.

    Raises:
        IntegrityError: a slot was added, removed or changed without the root key.
    """
    if not hmac.compare_digest(table_mac(slot_mac, store_id, slots), mac):
        raise IntegrityError(
            "the keyslot table fails authentication: it was changed outside of the agent; restore a backup"
        )


def _take(encoded: bytes) -> tuple[bytes, bytes]:
    """One length-prefixed field, and what follows it."""
    (length,) = _SHORT.unpack_from(encoded)
    end = _SHORT.size + length
    if end > len(encoded):
        raise IntegrityError("a keyslot's header is cut short")
    return encoded[_SHORT.size : end], encoded[end:]
