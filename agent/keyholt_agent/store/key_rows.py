"""SQL for what unlocks the store: its identity, the keyslots, the master keys.

- Every function runs inside the caller's transaction and checks before it writes: one that raises a
  ``KeyholtError`` has changed nothing.
- Wraps are reserved before they are used, so that a crash can only over-count (NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from keyholt_agent.store.errors import SlotTableMovedError, WrapLimitError
from keyholt_agent.store.records import Custody, KeyState, MasterKeyRow, SlotRow, SlotTable
from keyholt_agent.store.schema import keyslot, master_key, store_meta
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError

__all__ = [
    "add_master_version",
    "insert_master_key",
    "insert_slots",
    "master_key_rowids",
    "master_keys",
    "replace_slot_table",
    "reserve_wraps",
    "slot_table",
]


Choice = TypeVar("Choice", KeyState, Custody)


def slot_table(connection: Connection) -> SlotTable:
    """The store's id, its keyslots in order, and their MAC."""
    meta = connection.execute(select(store_meta.c.store_id, store_meta.c.slot_table_mac)).one()
    columns = (keyslot.c.name, keyslot.c.kind, keyslot.c.header, keyslot.c.wrapped_root, keyslot.c.created)
    rows = connection.execute(select(*columns).order_by(keyslot.c.position))
    slots = tuple(
        SlotRow(name=name, kind=kind, header=header, wrapped_root=wrapped, created=created)
        for name, kind, header, wrapped, created in rows
    )
    return SlotTable(store_id=meta.store_id, mac=meta.slot_table_mac, slots=slots)


def replace_slot_table(
    connection: Connection, slots: Sequence[SlotRow], *, mac: bytes, expected_mac: bytes
) -> None:
    """Put ``slots`` in the place of all keyslots.

    Raises:
        SlotTableMovedError: the table's MAC is not ``expected_mac``; read it again.
    """
    changed = connection.execute(
        update(store_meta).where(store_meta.c.slot_table_mac == expected_mac).values(slot_table_mac=mac)
    )
    if changed.rowcount != 1:
        raise SlotTableMovedError("the keyslots were changed meanwhile: try again")
    # All rows, without a condition: SQLite then zeroes the table's pages whole, so that the wrapped root
    # of a removed slot cannot survive in the slack of a page (see ``schema``).
    connection.execute(delete(keyslot))
    insert_slots(connection, slots)


def insert_slots(connection: Connection, slots: Iterable[SlotRow]) -> None:
    """Insert ``slots``, in their order, into the empty table."""
    rows = [
        {
            "position": position,
            "name": slot.name,
            "kind": slot.kind,
            "header": slot.header,
            "wrapped_root": slot.wrapped_root,
            "created": slot.created,
        }
        for position, slot in enumerate(slots, 1)
    ]
    if rows:
        connection.execute(insert(keyslot), rows)


def master_keys(connection: Connection) -> list[MasterKeyRow]:
    """Every version of every master key, by name and version."""
    rows = connection.execute(select(master_key).order_by(master_key.c.name, master_key.c.version))
    return [
        MasterKeyRow(
            key_id=row.key_id,
            name=row.name,
            version=row.version,
            state=_known(KeyState, row.state),
            custody=_known(Custody, row.custody),
            wrapped=row.wrapped,
            wraps_reserved=row.wraps_reserved,
            created=row.created,
        )
        for row in rows
    ]


def _known(kind: type[Choice], stored: str) -> Choice:
    try:
        return kind(stored)
    except ValueError:
        raise IntegrityError(
            f"a master key has a {kind.__name__} that this agent does not know: restore a backup"
        ) from None


def master_key_rowids(
    connection: Connection, wanted: Iterable[tuple[bytes, int]]
) -> dict[tuple[bytes, int], int]:
    """The row ids of master key versions, those that exist, by (key id, version)."""
    found: dict[tuple[bytes, int], int] = {}
    for key_id, version in wanted:
        rowid = connection.execute(select(master_key.c.id).where(_is_key(key_id, version))).scalar()
        if rowid is not None:
            found[key_id, version] = rowid
    return found


def reserve_wraps(connection: Connection, key_id: bytes, version: int, *, count: int, limit: int) -> None:
    """Count ``count`` wraps under a master key version, before any of them is made.

    Raises:
        WrapLimitError: it would come to more than ``limit``; rotate the master key.
        ConflictError: the version is not the active one.
        NotFoundError: there is no such version.
    """
    columns = (master_key.c.wraps_reserved, master_key.c.state)
    row = connection.execute(select(*columns).where(_is_key(key_id, version))).one_or_none()
    name = f"version {version} of master key {key_id.hex()}"
    if row is None:
        raise NotFoundError(f"there is no {name}")
    if row.state != KeyState.ACTIVE:
        raise ConflictError(f"{name} is {row.state}: use the active one")
    reserved = row.wraps_reserved + count
    if reserved > limit:
        raise WrapLimitError(f"{name} may wrap {limit} data keys and has: rotate it")
    connection.execute(update(master_key).where(_is_key(key_id, version)).values(wraps_reserved=reserved))


def add_master_version(
    connection: Connection, row: MasterKeyRow, *, retire: tuple[bytes, int] | None
) -> None:
    """Insert a master key version; with ``retire``, make that active version decrypt-only with it.

    Raises:
        ConflictError: the version to retire is not active: somebody rotated first.
        AlreadyExistsError: the key has that version, or the name is another key's.
    """
    if retire is not None:
        state = connection.execute(select(master_key.c.state).where(_is_key(*retire))).scalar()
        if state != KeyState.ACTIVE:
            raise ConflictError(f"version {retire[1]} of master key {row.name!r} is {state}, not active")
    same_name = master_key.c.name == row.name
    taken = _is_key(row.key_id, row.version) | (
        same_name & ((master_key.c.version == row.version) | (master_key.c.key_id != row.key_id))
    )
    if connection.execute(select(master_key.c.id).where(taken)).first() is not None:
        raise AlreadyExistsError(
            f"there is a version {row.version} of master key {row.name!r}, or another key"
        )
    if retire is not None:
        connection.execute(
            update(master_key).where(_is_key(*retire)).values(state=KeyState.DECRYPT_ONLY.value)
        )
    insert_master_key(connection, row)


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
    connection.execute(insert(master_key), values)


def _is_key(key_id: bytes, version: int) -> ColumnElement[bool]:
    return and_(master_key.c.key_id == key_id, master_key.c.version == version)
