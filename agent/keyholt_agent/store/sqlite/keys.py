"""Answers to commands on what unlocks the store: its id, the keyslots, the master keys.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing.
- Wraps are reserved before they are used, so that a crash can only over-count (NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from keyholt_agent.store.errors import SlotTableMovedError, WrapLimitError
from keyholt_agent.store.key_commands import (
    AddKeyslot,
    AddMasterVersion,
    CountWraps,
    ReadMasterKeys,
    ReadSlotTable,
)
from keyholt_agent.store.rows import Custody, KeyState, MasterKeyRow, SlotRow, SlotTable
from keyholt_agent.store.sqlite import elements, sql
from keyholt_agent.store.sqlite.transaction import Transaction
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError

__all__ = [
    "MasterRow",
    "add_keyslot",
    "add_master_version",
    "count_wraps",
    "insert_master_key",
    "insert_slots",
    "maybe_master_row",
    "read_master_keys",
    "read_slot_table",
    "replaced",
    "rows_of_store",
]

Choice = TypeVar("Choice", KeyState, Custody)

_ODD_ROWS: Final = (
    "the store is not as the agent left it: rows lie where it puts none, or go together with none; restore a "
    "backup"
)

FIRST_MASTER: Final = 1000
"""The key of the first row of ``master_key``; see ``schema``."""


class MasterRow(NamedTuple):
    """A row of ``master_key``."""

    id: int
    key_id: bytes
    version: int
    name: str
    state: str
    custody: str
    created: int
    wraps_reserved: int
    retiring: int
    wrapped: bytes

    @property
    def element(self) -> bytes:
        return elements.master_key(*self)


def read_slot_table(transaction: Transaction, _: ReadSlotTable) -> SlotTable:
    """Read the one row of the store itself, and all keyslots."""
    store_id, mac = transaction.execute(sql.META).fetchone()
    slots = tuple(
        SlotRow(name=name, kind=kind, header=header, wrapped_root=wrapped, created=created)
        for name, kind, header, wrapped, created in transaction.execute(sql.SLOTS)
    )
    return SlotTable(store_id=store_id, mac=mac, slots=slots)


def add_keyslot(transaction: Transaction, asked: AddKeyslot) -> None:
    """Replace the MAC where it is the expected one, and add the row."""
    store_id, created, mac = transaction.execute(sql.META_ROW).fetchone()
    macs = {"expected_mac": asked.expected_mac, "mac": asked.mac}
    if transaction.execute(sql.REPLACE_MAC, macs).rowcount != 1:
        raise SlotTableMovedError("the keyslots were changed meanwhile: try again")
    transaction.remove(elements.store_meta(store_id, created, mac))
    transaction.add(elements.store_meta(store_id, created, asked.mac))
    (last,) = transaction.execute(sql.LAST_SLOT).fetchone()
    insert_slots(transaction, (asked.slot,), after=last)


def insert_slots(transaction: Transaction, slots: Iterable[SlotRow], *, after: int = 0) -> None:
    """Insert ``slots``, in their order, behind the one at a position."""
    for position, slot in enumerate(slots, after + 1):
        values: dict[str, Any] = {
            "position": position,
            "name": slot.name,
            "kind": slot.kind,
            "created": slot.created,
            "header": slot.header,
            "wrapped_root": slot.wrapped_root,
        }
        transaction.execute(sql.ADD_SLOT, values)
        transaction.add(elements.keyslot(*values.values()))


def read_master_keys(transaction: Transaction, _: ReadMasterKeys) -> list[MasterKeyRow]:
    """Read all rows."""
    return [
        MasterKeyRow(
            key_id=key_id,
            name=name,
            version=version,
            state=_known(KeyState, state),
            custody=_known(Custody, custody),
            wrapped=wrapped,
            wraps_reserved=wraps_reserved,
            created=created,
            retiring=bool(retiring),
        )
        for (
            key_id,
            name,
            version,
            state,
            custody,
            wrapped,
            wraps_reserved,
            created,
            retiring,
        ) in transaction.execute(sql.MASTERS).fetchall()
    ]


def count_wraps(transaction: Transaction, asked: CountWraps) -> None:
    """Raise the count of an active version, if that leaves it within the limit."""
    row = maybe_master_row(transaction, asked.key_id, asked.version)
    name = f"version {asked.version} of master key {asked.key_id.hex()}"
    if row is None:
        raise NotFoundError(f"there is no {name}")
    if row.state != KeyState.ACTIVE:
        raise ConflictError(f"{name} is {row.state}: use the active one")
    reserved = row.wraps_reserved + asked.count
    if reserved > asked.limit:
        raise WrapLimitError(f"{name} may wrap {asked.limit} data keys and has: rotate it")
    transaction.execute(sql.RESERVE, {"row": row.id, "new_wraps_reserved": reserved})
    replaced(transaction, row, row._replace(wraps_reserved=reserved))


def add_master_version(transaction: Transaction, asked: AddMasterVersion) -> None:
    """Retire one version and add another, once neither stands in the way."""
    new, retired = asked.row, None
    if asked.retire is not None:
        retired = maybe_master_row(transaction, *asked.retire)
        if retired is None or retired.state != KeyState.ACTIVE:
            state = retired.state if retired else None
            raise ConflictError(
                f"version {asked.retire[1]} of master key {new.name!r} is {state}, not active"
            )
    same_name = transaction.execute(sql.MASTERS_NAMED, {"name": new.name}).fetchall()
    if maybe_master_row(transaction, new.key_id, new.version) is not None or any(
        key_id != new.key_id or version == new.version for key_id, version in same_name
    ):
        raise AlreadyExistsError(
            f"there is a version {new.version} of master key {new.name!r}, or another key"
        )
    if retired is not None:
        state = KeyState.DECRYPT_ONLY.value
        transaction.execute(sql.SET_STATE, {"row": retired.id, "new_state": state})
        replaced(transaction, retired, retired._replace(state=state))
    insert_master_key(transaction, new)


def insert_master_key(transaction: Transaction, row: MasterKeyRow) -> None:
    """Insert a master key version."""
    (last,) = transaction.execute(sql.LAST_MASTER).fetchone()
    added = MasterRow(
        id=FIRST_MASTER if last is None else last + 1,
        key_id=row.key_id,
        version=row.version,
        name=row.name,
        state=row.state.value,
        custody=row.custody.value,
        created=row.created,
        wraps_reserved=row.wraps_reserved,
        retiring=int(row.retiring),
        wrapped=row.wrapped,
    )
    transaction.execute(sql.ADD_MASTER, added._asdict())
    transaction.add(added.element)


def rows_of_store(transaction: Transaction) -> Iterator[bytes]:
    """The elements of the store's own row, of all keyslots and all master keys.

    Raises:
        IntegrityError: rows of the other tables lie where none is read from.
    """
    first_path, _, first_version, last_version, first_key, last_key = transaction.execute(sql.ENDS).fetchone()
    if any(first is not None and first < 1 for first in (first_path, first_version, first_key)):
        raise IntegrityError(_ODD_ROWS)
    if last_key != last_version:
        raise IntegrityError(_ODD_ROWS)
    yield elements.store_meta(*transaction.execute(sql.META_ROW).fetchone())
    for row in transaction.execute(sql.SLOT_ROWS):
        yield elements.keyslot(*row)
    for row in transaction.execute(sql.MASTER_ROWS):
        yield elements.master_key(*row)


def replaced(transaction: Transaction, before: MasterRow, after: MasterRow) -> None:
    """Take down that a row was changed."""
    transaction.remove(before.element)
    transaction.add(after.element)


def maybe_master_row(transaction: Transaction, key_id: bytes, version: int) -> MasterRow | None:
    """A master key version's row; None if there is none."""
    row = transaction.execute(sql.MASTER_ROW, {"key_id": key_id, "version": version}).fetchone()
    return None if row is None else MasterRow(*row)


def _known(kind: type[Choice], stored: str) -> Choice:
    try:
        return kind(stored)
    except ValueError:
        raise IntegrityError(
            f"a master key has a {kind.__name__} that this agent does not know: restore a backup"
        ) from None
