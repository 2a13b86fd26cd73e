"""Answers to commands on what unlocks the store: its id, the keyslots, the master keys.

What each answers and refuses stands with its command.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing.
- Wraps are reserved before they are used, so that a crash can only over-count (NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import NamedTuple, TypeVar

from keyholt_agent.store.commands import (
    AddMasterVersion,
    CountWraps,
    ReadMasterKeys,
    ReadSlotTable,
    ReplaceSlotTable,
)
from keyholt_agent.store.errors import SlotTableMovedError, WrapLimitError
from keyholt_agent.store.rows import Custody, KeyState, MasterKeyRow, SlotRow, SlotTable
from keyholt_agent.store.sqlite import sql
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError

__all__ = [
    "add_master_version",
    "count_wraps",
    "insert_master_key",
    "insert_slots",
    "read_master_keys",
    "read_slot_table",
    "replace_slot_table",
]

Choice = TypeVar("Choice", KeyState, Custody)


class MasterRow(NamedTuple):
    """What a change of a master key version looks at."""

    id: int
    state: str
    wraps_reserved: int


def read_slot_table(connection: Connection, _: ReadSlotTable) -> SlotTable:
    """Read the one row of the store itself, and all keyslots."""
    store_id, mac = connection.execute(sql.META).fetchone()
    slots = tuple(
        SlotRow(name=name, kind=kind, header=header, wrapped_root=wrapped, created=created)
        for name, kind, header, wrapped, created in connection.execute(sql.SLOTS)
    )
    return SlotTable(store_id=store_id, mac=mac, slots=slots)


def replace_slot_table(connection: Connection, asked: ReplaceSlotTable) -> None:
    """Replace the MAC where it is the expected one, and then all rows."""
    macs = {"expected_mac": asked.expected_mac, "mac": asked.mac}
    if connection.execute(sql.REPLACE_MAC, macs).rowcount != 1:
        raise SlotTableMovedError("the keyslots were changed meanwhile: try again")
    connection.execute(sql.REMOVE_SLOTS)
    insert_slots(connection, asked.slots)


def insert_slots(connection: Connection, slots: Iterable[SlotRow]) -> None:
    """Insert ``slots``, in their order, into the empty table."""
    for position, slot in enumerate(slots, 1):
        values = {
            "position": position,
            "name": slot.name,
            "kind": slot.kind,
            "header": slot.header,
            "wrapped_root": slot.wrapped_root,
            "created": slot.created,
        }
        connection.execute(sql.ADD_SLOT, values)


def read_master_keys(connection: Connection, _: ReadMasterKeys) -> list[MasterKeyRow]:
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
        )
        for key_id, name, version, state, custody, wrapped, wraps_reserved, created in connection.execute(
            sql.MASTERS
        )
    ]


def count_wraps(connection: Connection, asked: CountWraps) -> None:
    """Raise the count of an active version, if that leaves it within the limit."""
    row = _maybe_master_row(connection, asked.key_id, asked.version)
    name = f"version {asked.version} of master key {asked.key_id.hex()}"
    if row is None:
        raise NotFoundError(f"there is no {name}")
    if row.state != KeyState.ACTIVE:
        raise ConflictError(f"{name} is {row.state}: use the active one")
    reserved = row.wraps_reserved + asked.count
    if reserved > asked.limit:
        raise WrapLimitError(f"{name} may wrap {asked.limit} data keys and has: rotate it")
    connection.execute(sql.RESERVE, {"row": row.id, "new_wraps_reserved": reserved})


def add_master_version(connection: Connection, asked: AddMasterVersion) -> None:
    """Retire one version and add another, once neither stands in the way."""
    new, retired = asked.row, None
    if asked.retire is not None:
        retired = _maybe_master_row(connection, *asked.retire)
        if retired is None or retired.state != KeyState.ACTIVE:
            state = retired.state if retired else None
            raise ConflictError(
                f"version {asked.retire[1]} of master key {new.name!r} is {state}, not active"
            )
    same_name = connection.execute(sql.MASTERS_NAMED, {"name": new.name}).fetchall()
    if _maybe_master_row(connection, new.key_id, new.version) is not None or any(
        key_id != new.key_id or version == new.version for key_id, version in same_name
    ):
        raise AlreadyExistsError(
            f"there is a version {new.version} of master key {new.name!r}, or another key"
        )
    if retired is not None:
        connection.execute(sql.SET_STATE, {"row": retired.id, "new_state": KeyState.DECRYPT_ONLY.value})
    insert_master_key(connection, new)


def insert_master_key(connection: Connection, row: MasterKeyRow) -> None:
    """Insert a master key version."""
    values = {
        "key_id": row.key_id,
        "name": row.name,
        "version": row.version,
        "state": row.state.value,
        "custody": row.custody.value,
        "wrapped": row.wrapped,
        "wraps_reserved": row.wraps_reserved,
        "created": row.created,
    }
    connection.execute(sql.ADD_MASTER, values)


def _maybe_master_row(connection: Connection, key_id: bytes, version: int) -> MasterRow | None:
    row = connection.execute(sql.MASTER, {"key_id": key_id, "version": version}).fetchone()
    return None if row is None else MasterRow(*row)


def _known(kind: type[Choice], stored: str) -> Choice:
    try:
        return kind(stored)
    except ValueError:
        raise IntegrityError(
            f"a master key has a {kind.__name__} that this agent does not know: restore a backup"
        ) from None
