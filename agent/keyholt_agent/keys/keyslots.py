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
30      32     public key    X25519; whom the root key is wrapped to (``recipients``)
62      32     confirmation  of the store's confirmation secret (``recipients``)
94      2      name length   bytes
96      n      name          UTF-8
96+n    2      length        bytes of the parameters
98+n    m      parameters    of the kind; ``kdf.Argon2Parameters.encode`` for a passphrase
======  =====  ============  ==============================================================

The wrapped root key is a record of ``recipients``, of type ``ROOT_KEY``, whose context is the slot's name
and, as metadata, this whole header: parameters that were changed open nothing. Its key version is that of the
slot's key, which never changes; its record version is that of the root key. It holds, 32 bytes each, the root
key and the confirmation secret.

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
- Wrapping takes nothing of a slot but its header, unwrapping its identity. Deriving that may take seconds and
  runs in a worker thread; wrapping and unwrapping take microseconds and run where the root key is owned.
- A caller learns only that a slot did not open (``UnlockFailedError``), or that the store is damaged
  (``IntegrityError``).
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from keyholt_agent.keys import kdf
from keyholt_agent.keys.envelope import (
    ID_SIZE,
    KEY_SIZE,
    RecordType,
    Suite,
    bind,
    header_under,
    key_reference,
    read_header,
)
from keyholt_agent.keys.recipients import Identity, Recipient
from keyholt_agent.keys.root_secret import ROOT_SECRET_SIZE, RootSecret
from keyholt_agent.memory import Arena, Guarded
from keyholt_protocol.errors import IntegrityError, UnlockFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyholt_agent.keys.envelope import Header
    from keyholt_agent.keys.randomness import Randomness

__all__ = [
    "Keyslot",
    "KeyslotDraft",
    "PassphraseSource",
    "SlotKeySource",
    "SlotKind",
    "StoredKeyslot",
    "complete_slot",
    "derive_identity",
    "open_slot",
    "passphrase_slot",
    "table_mac",
    "verify_table",
    "wrap_root",
]

_MAGIC: Final = b"KHKS"
_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">4sBB16sQ32s32s")
_SHORT: Final = struct.Struct(">H")
_LONG: Final = struct.Struct(">I")
_TABLE_LABEL: Final = b"keyholt slot table v1\0\0\0"

_KEY_VERSION: Final = 1
"""A slot's key never changes: a new passphrase is a new slot."""


class SlotKind(IntEnum):
    """How a slot's key is come by. The number is stored: it is never reused."""

    PASSPHRASE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyslotDraft:
    """What is settled of a keyslot before its key is derived.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyslot(KeyslotDraft):
    """The header of a keyslot.

    Attributes:
        public_key: whom the root key is wrapped to, 32 bytes.
        confirmation: by which the slot knows its store again, 32 bytes.
    """

    public_key: bytes
    confirmation: bytes

    def encode(self) -> bytes:
        """The header's only encoding (the module's first table)."""
        name = self.name.encode()
        head = _HEAD.pack(
            _MAGIC, _FORMAT, self.kind, self.slot_id, self.created, self.public_key, self.confirmation
        )
        return b"".join(
            (head, _SHORT.pack(len(name)), name, _SHORT.pack(len(self.parameters)), self.parameters)
        )

    def record_header(self, root_version: int) -> Header:
        """How the record begins in which that version of the root key is wrapped to this slot."""
        suite = Suite.HPKE_X25519_CHACHA20_POLY1305
        reference = key_reference(RecordType.ROOT_KEY, self.slot_id, _KEY_VERSION, suite)
        return header_under(reference, root_version)

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
            magic, version, kind, slot_id, created, public_key, confirmation = _HEAD.unpack_from(encoded)
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
                public_key=public_key,
                confirmation=confirmation,
            )
        except (struct.error, ValueError):
            raise IntegrityError(
                "a keyslot's header is damaged, or of a kind unknown to this agent"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKeyslot:
    """What the store keeps of a keyslot: its encoded ``header``, and the root key wrapped to it."""

    header: bytes
    wrapped_root: bytes


class SlotKeySource(Protocol):
    """What a person or a device brings to open a slot; one implementation a kind."""

    @property
    def kind(self) -> SlotKind:
        """The kind of slot that it opens."""
        ...

    def derive(self, parameters: bytes, target: memoryview) -> None:
        """Write what the slot's keys follow from, 32 bytes of locked memory. May block; runs in a thread."""
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


def passphrase_slot(
    name: str, created: int, costs: kdf.Argon2Parameters, randomness: Randomness
) -> KeyslotDraft:
    """A new passphrase keyslot with a new id and salt, before anything is derived."""
    return KeyslotDraft(
        kind=SlotKind.PASSPHRASE,
        slot_id=randomness.draw(ID_SIZE),
        created=created,
        name=name,
        parameters=costs.encode(randomness.draw(kdf.SALT_SIZE)),
    )


def derive_identity(arena: Arena, slot: KeyslotDraft, source: SlotKeySource) -> Identity:
    """Who unwraps what is wrapped to a slot, the caller's to release. Blocks: call it in a worker thread.

    Raises:
        UnlockFailedError: the slot is of another kind than the source opens.
        IntegrityError: the slot's parameters are damaged or out of bounds.
        ResourceExhaustedError: no memory for the derivation.
    """
    if slot.kind is not source.kind:
        raise UnlockFailedError(
            f"keyslot {slot.name!r} is of kind {slot.kind.name.lower()}; give what it takes"
        )
    with arena.allocate(KEY_SIZE) as secret:
        source.derive(slot.parameters, secret.view)
        return Identity(arena, secret)


def complete_slot(draft: KeyslotDraft, identity: Identity, root: RootSecret, store_id: bytes) -> Keyslot:
    """The keyslot of a draft: with the public key of its identity, and confirmed by it."""
    return Keyslot(
        **asdict(draft),
        public_key=identity.public_key,
        confirmation=identity.confirm(store_id, root.confirmation),
    )


def wrap_root(
    arena: Arena, slot: Keyslot, root: RootSecret, store_id: bytes, randomness: Randomness
) -> StoredKeyslot:
    """Wrap a root key to a slot. Only for a header that is known to be genuine: its public key is relied on.

    Raises:
        IntegrityError: the public key is not one.
    """
    header = slot.encode()
    recipient = Recipient(arena, slot.public_key, randomness)
    with arena.allocate(ROOT_SECRET_SIZE) as plaintext:
        root.join(plaintext)
        wrapped = recipient.wrap(
            slot.record_header(root.version), bind(store_id, slot.name, header), plaintext
        )
    return StoredKeyslot(header=header, wrapped_root=wrapped)


def open_slot(arena: Arena, stored: StoredKeyslot, identity: Identity, store_id: bytes) -> RootSecret:
    """The root key out of a slot, the caller's to release.

    Raises:
        UnlockFailedError: the identity is not the slot's; for a passphrase: it is wrong.
        IntegrityError: the stored slot is not one, or its root key was not wrapped by somebody who had one of
            this store.
    """
    slot = Keyslot.decode(stored.header)
    if not hmac.compare_digest(identity.public_key, slot.public_key):
        raise UnlockFailedError
    version = read_header(stored.wrapped_root).record_version
    with arena.allocate(ROOT_SECRET_SIZE) as plaintext:
        context = bind(store_id, slot.name, stored.header)
        identity.unwrap(stored.wrapped_root, slot.record_header(version), context, plaintext)
        root = RootSecret.split(arena, version, plaintext)
    if not hmac.compare_digest(identity.confirm(store_id, root.confirmation), slot.confirmation):
        root.release()
        raise IntegrityError(f"keyslot {slot.name!r} holds a root key of another store; restore a backup")
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
