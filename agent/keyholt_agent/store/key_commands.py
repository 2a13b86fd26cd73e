"""What can be asked of the store about its keys: keyslots, master keys, data keys, and the sealed state.

As ``commands``: one frozen class a command, with what it answers and what refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyholt_agent.sealed_state import PartialSum, StateKeeper
from keyholt_agent.store.commands import Command, Kind
from keyholt_agent.store.rows import MasterKeyRow, SlotRow, SlotTable, WrappedKey

__all__ = [
    "AddKeyslot",
    "AddMasterVersion",
    "AddUp",
    "CountRetiringKeys",
    "CountWraps",
    "Cover",
    "PutInForce",
    "ReadMasterKeys",
    "ReadSlotTable",
    "ReadWrappedKeys",
    "ReplaceRoot",
    "RetireMasterVersion",
    "RewrapKeys",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddUp(Command[PartialSum]):
    """Add up the elements of the rows that come after ``after`` (None: of all), about ``most`` of them."""

    keeper: StateKeeper
    after: tuple[int, int] | None
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PutInForce(Command[None]):
    """Seal with these keys from now on, if the store's rows, which come to ``total``, are what was sealed.

    Raises:
        IntegrityError: rows were changed, set back, removed or added by something else than the agent.
    """

    keeper: StateKeeper
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSlotTable(Command[SlotTable]):
    """The store's id, its keyslots in order, and their MAC (unverified here)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKeyslot(Command[None]):
    """Add a keyslot behind all others.

    Attributes:
        mac: over all keyslots, the new one included.
        expected_mac: the MAC of the table that it was worked out from.

    Raises:
        SlotTableMovedError: the table changed since; read it again.
    """

    kind = Kind.WRITE
    slot: SlotRow
    mac: bytes
    expected_mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMasterKeys(Command[list[MasterKeyRow]]):
    """Every version of every master key, by name and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountWraps(Command[None]):
    """Count ``count`` wraps under the active master key version, durably, before they are made.

    A crash can only over-count (NIST SP 800-38D, section 8.3).

    Raises:
        WrapLimitError: it would come to more than ``limit``; add a version.
        ConflictError: that version is not active.
        NotFoundError: no such version.
    """

    kind = Kind.WRITE
    key_id: bytes
    version: int
    count: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMasterVersion(Command[None]):
    """Insert a master key version, and make the active version ``retire`` decrypt-only with it.

    Raises:
        ConflictError: the version to retire is not active; somebody else rotated.
        AlreadyExistsError: there is such a version, or the name is another key's.
    """

    kind = Kind.WRITE
    row: MasterKeyRow
    retire: tuple[bytes, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover(Command[int | None]):
    """Add up about ``most`` more rows with the keys that are to be in force next; other keys begin anew.

    Answers how many rows there were, or None when there are no more: from then on until ``ReplaceRoot`` the
    sum of those keys moves along with the store.
    """

    keeper: StateKeeper
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceRoot(Command[None]):
    """Put a new root key in the place of the present one: nothing that the store holds is wrapped by that any
    more, but in the log, of which it is gone before the answer.

    Attributes:
        keeper: the new keys of the sealed state, with which all rows were covered.
        slots: every keyslot, wrapping the new root key, in order.
        mac: over all of ``slots``, with a key of the new root key.
        expected_mac: the MAC of the table that ``slots`` was worked out from.
        wrapped: each master key version by its id and number, wrapped anew.
        added: a new version of each active one, which is retired with it: what it wrapped is to be rewrapped.

    Raises:
        SlotTableMovedError: the keyslots, or the master keys, changed since; read them again.
    """

    kind = Kind.ALONE
    erases = True
    keeper: StateKeeper
    slots: tuple[SlotRow, ...]
    mac: bytes
    expected_mac: bytes
    wrapped: Mapping[tuple[bytes, int], bytes]
    added: tuple[MasterKeyRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadWrappedKeys(Command[list[WrappedKey]]):
    """Up to ``most`` data keys that a master key version wraps, from after the row ``after`` on."""

    key_id: bytes
    version: int
    after: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRetiringKeys(Command[int]):
    """How many data keys are wrapped by versions that are retiring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrapKeys(Command[int]):
    """Put other wrapped forms in the place of data keys, unless they changed since; answers of how many.

    Attributes:
        keys: as they were read, each with its new form.
        key_id: of the master key that wraps them now.
        version: of that.

    Raises:
        MasterRetiredError: that version is not the active one.
    """

    kind = Kind.WRITE
    keys: tuple[tuple[WrappedKey, bytes], ...]
    key_id: bytes
    version: int

    @property
    def evicts(self) -> tuple[str, ...]:
        return tuple(key.path for key, _ in self.keys)

    @property
    def weight(self) -> int:
        return sum(len(key.path) + len(wrapped) for key, wrapped in self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireMasterVersion(Command[None]):
    """Destroy a version that wraps nothing any more; its key is in no file of the store when it is answered.

    Raises:
        ConflictError: something is wrapped by it.
        NotFoundError: no such version.
    """

    kind = Kind.WRITE
    erases = True
    key_id: bytes
    version: int
