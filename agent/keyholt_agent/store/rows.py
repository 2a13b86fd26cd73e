"""What goes into the store and comes out of it: frozen rows, no behaviour.

- Every ``bytes`` here is ciphertext, a wrapped key, a public parameter or a MAC: never a plaintext or a key.
- None of it is in a ``repr`` all the same: long, and no use in a log.
- Times are whole seconds since the epoch, given by the caller: the store reads no clock.
- ``metadata`` is opaque here; whoever seals a value authenticates it with the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keyholt_agent.key_states import Custody, KeyState

__all__ = [
    "Counts",
    "Custody",
    "Head",
    "KeyState",
    "MasterKeyRow",
    "NewVersion",
    "Newest",
    "Resealed",
    "SecretPage",
    "SecretSummary",
    "SecretVersion",
    "SlotRow",
    "SlotTable",
    "StoreSeed",
    "StoreStatistics",
    "VersionSummary",
    "WrappedKey",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """One version of a secret, as it is written.

    Attributes:
        version: 1 for a new path, else one more than the latest.
        wrapped_key: the version's data key, wrapped under the master key named beside it.
        value: the sealed value.
        master_key_id: 16 bytes.
    """

    version: int
    created: int
    metadata: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    master_key_id: bytes
    master_key_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """What takes the place of a version's wrapped data key and value; ``master_key_id`` is 16 bytes."""

    wrapped_key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    master_key_id: bytes
    master_key_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """One version of a secret, as it is read; ``wrapped_key`` and ``value`` are None once destroyed."""

    version: int
    metadata: bytes = field(repr=False)
    wrapped_key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)

    @property
    def destroyed(self) -> bool:
        return self.value is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a path stands: its latest version (0: never written), and since when it is deleted."""

    latest: int
    deleted_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """Where a path stands, and its latest version without the value.

    ``wrapped_key`` is None once that is destroyed, and both are where there is none.
    """

    head: Head
    metadata: bytes | None = field(repr=False)
    wrapped_key: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSummary:
    """A live secret in a listing; ``metadata`` is its latest version's, and so is ``destroyed``."""

    path: str
    latest: int
    metadata: bytes = field(repr=False)
    destroyed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPage:
    """A page of a listing.

    Attributes:
        secrets: in order.
        scanned_to: the path to go on after, where the page ended for the number of deleted ones that it
            passed over.
    """

    secrets: Sequence[SecretSummary]
    scanned_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSummary:
    """A version in a history."""

    version: int
    metadata: bytes = field(repr=False)
    destroyed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRow:
    """A keyslot: ``header`` authenticates ``wrapped_root``, the MAC over all slots is in ``SlotTable``."""

    name: str
    kind: str
    header: bytes = field(repr=False)
    wrapped_root: bytes = field(repr=False)
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTable:
    """All keyslots in their order, and the MAC that covers them; ``store_id`` is 16 bytes."""

    store_id: bytes
    mac: bytes = field(repr=False)
    slots: tuple[SlotRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKeyRow:
    """One version of a master key.

    Attributes:
        key_id: 16 bytes.
        wraps_reserved: only ever grows.
        retiring: whether what it wrapped is to be rewrapped, until there is nothing left.
    """

    key_id: bytes
    name: str
    version: int
    state: KeyState
    custody: Custody
    wrapped: bytes = field(repr=False)
    wraps_reserved: int
    created: int
    retiring: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A data key as it is wrapped, of one version of a secret; ``wrapped`` is all zeroes once destroyed."""

    row: int
    path: str
    version: int
    metadata: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)

    @property
    def destroyed(self) -> bool:
        return not any(self.wrapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSeed:
    """What a new store starts with."""

    store_id: bytes
    created: int
    slots: tuple[SlotRow, ...]
    slot_table_mac: bytes = field(repr=False)
    master_key: MasterKeyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much there is: paths, the deleted ones among them, versions, and bytes of the store once its log is
    brought in.
    """

    paths: int
    deleted: int
    versions: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatistics:
    """How much there is.

    Attributes:
        secrets: live paths.
        versions: of live and deleted paths, destroyed ones too.
        bytes: of the store file, once its log is brought in.
    """

    secrets: int
    deleted: int
    versions: int
    bytes: int
