"""Every statement of the store, in SQLAlchemy Core over ``schema``; `make generate` makes ``sql`` of them.

A running agent loads the compiled texts alone. Loading SQLAlchemy would cost it 120 ms of its start and 16
MB, and using it half of the processor time of a write.

- One statement a public name; what it is given stands in it as ``bindparam``.
- Nothing here reads or writes by anything but an index: ``tests/agent/store/sqlite/test_statements.py``.
- A column of a result has a name by which it is held against what it may hold (``columns``).
- What pages show is taken only where it is what it must be: a forged row is read no further, and hinders no
  other.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Insert,
    Integer,
    LargeBinary,
    Table,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)

from keyholt_agent.key_states import KeyState
from keyholt_agent.store.sqlite.schema import (
    alembic_version,
    data_key,
    keyslot,
    master_key,
    secret,
    secret_version,
    store_meta,
)
from keyholt_protocol.limits import MAX_PATH, MAX_VERSION

__all__ = [
    "ACTIVE_MASTER", "ADD_KEY", "ADD_MASTER", "ADD_META", "ADD_REVISION", "ADD_SECRET", "ADD_SLOT",
    "ADD_VERSION", "ADVANCE", "COUNT_DELETED", "COUNT_RETIRING", "ENDS", "ERASE_KEY", "ERASE_VALUE",
    "FORGET_VERSION", "HEAD", "HEADS", "HISTORY", "IDENTITIES", "LAST_IDS", "LAST_MASTER", "LAST_SLOT",
    "LATEST", "LISTING", "MASTERS", "MASTERS_NAMED", "MASTER_ROW", "MASTER_ROWS", "META", "META_ROW",
    "NAMED", "REMOVE_SLOTS", "RENAME", "REPLACE_MAC", "REPLACE_VALUE", "RESERVE", "REVISIONS", "REVIVE",
    "REWRAP", "REWRITE_MASTER", "SEAL", "SEALED", "SEALED_SIZE", "SET_DELETED", "SET_STATE", "SLOTS",
    "SLOT_ROWS", "VERSIONS", "VERSION_AT", "VERSION_ROW", "WRAPPED",
]  # fmt: skip


def _adding(table: Table, *columns: str) -> Insert:
    return insert(table).values({name: bindparam(name) for name in columns})


def _number(column: ColumnElement[int]) -> ColumnElement[int]:
    """A version as a page shows it; 0 where it is none."""
    is_one = (func.typeof(column) == literal_column("'integer'")) & column.between(_ONE, _MOST_VERSION)
    return case((is_one, column), else_=_ZERO)


# Secrets and their versions.

_LARGEST_METADATA: Final = literal_column(str(8 * 1024), Integer)
_LARGEST_PATH: Final = literal_column(str(MAX_PATH), Integer)
_ZERO: Final = literal_column("0", Integer)
_ONE: Final = literal_column("1", Integer)
_MOST_VERSION: Final = literal_column(str(MAX_VERSION), Integer)
_NOTHING: Final = literal_column("x''", LargeBinary)
# Of bytes, the type and the length stand in the row's head: what is too long is not read.
_IS_METADATA: Final = (func.typeof(secret_version.c.metadata) == literal_column("'blob'")) & (
    func.length(secret_version.c.metadata) <= _LARGEST_METADATA
)
_METADATA: Final = case((_IS_METADATA, secret_version.c.metadata), else_=_NOTHING).label("metadata")
_PATH_BYTES: Final = cast(secret.c.path, LargeBinary)  # of text, the length is that up to its first zero
_IS_PATH: Final = func.length(_PATH_BYTES) <= _LARGEST_PATH
_PATH: Final = case((_IS_PATH, _PATH_BYTES), else_=_NOTHING).label("path")
_IS_DESTROYED: Final = secret_version.c.value.is_(None).label("destroyed")
_SIZE: Final = func.length(secret_version.c.value)
_STORED: Final = (
    _METADATA,
    data_key.c.wrapped_key,
    _SIZE.label("size"),
    # A large value is not read by whoever has no room for it.
    case((bindparam("most") >= _SIZE, secret_version.c.value)).label("value"),
)
_IS_VERSION: Final = (secret_version.c.secret_id == bindparam("secret_id")) & (
    secret_version.c.version == bindparam("version")
)
_IS_LATEST: Final = (secret_version.c.secret_id == secret.c.id) & (
    secret_version.c.version == secret.c.latest
)

HEAD: Final = select(secret.c.id, secret.c.latest, secret.c.deleted_at).where(
    secret.c.path == bindparam("path")
)
LATEST: Final = (
    select(secret.c.deleted_at, secret_version.c.version, *_STORED)
    .join(secret_version, _IS_LATEST)
    .join(data_key, data_key.c.id == secret_version.c.id)
    .where(secret.c.path == bindparam("path"))
)
NAMED: Final = (
    select(secret_version.c.version, *_STORED)
    .join(data_key, data_key.c.id == secret_version.c.id)
    .where(_IS_VERSION)
)

# Lengths stand in the rows' heads: no value is read.
SEALED_SIZE: Final = select(func.sum(_SIZE).label("size")).where(
    secret_version.c.secret_id == bindparam("secret_id")
)


def _if_typed(column: Column[Any], kind: str) -> ColumnElement[Any]:
    """A column as bytes; nothing where the file has it as another type, for which SQLite takes it as well."""
    return case((func.typeof(column) == literal_column(f"'{kind}'"), cast(column, LargeBinary)))


# One without a data key is read as well: it has no element, and that is found.
_VERSION_COLUMNS: Final = (
    secret_version.c.id,
    secret_version.c.secret_id,
    secret_version.c.version,
    secret_version.c.created,
    data_key.c.master_key,
    _IS_DESTROYED,
    _if_typed(secret_version.c.metadata, "blob"),
)
_WRAPPED_KEY: Final = _if_typed(data_key.c.wrapped_key, "blob")
_VERSIONS: Final = select(*_VERSION_COLUMNS, _WRAPPED_KEY).outerjoin(
    data_key, data_key.c.id == secret_version.c.id
)
VERSION_ROW: Final = _VERSIONS.where(_IS_VERSION)

ADD_SECRET: Final = _adding(secret, "path", "latest")
ADD_VERSION: Final = _adding(secret_version, "secret_id", "version", "created", "metadata", "value")
ADD_KEY: Final = _adding(data_key, "id", "master_key", "wrapped_key")
ADVANCE: Final = update(secret).where(secret.c.id == bindparam("row")).values(latest=bindparam("new_latest"))
REVIVE: Final = (
    update(secret)
    .where(secret.c.id == bindparam("row"))
    .values(latest=bindparam("new_latest"), deleted_at=null())
)
SET_DELETED: Final = (
    update(secret).where(secret.c.id == bindparam("row")).values(deleted_at=bindparam("new_deleted_at"))
)
# Zeros of the same length: SQLite then overwrites the cell where it is, and moves none.
ERASE_KEY: Final = (
    update(data_key)
    .where(data_key.c.id == bindparam("row"))
    .values(wrapped_key=func.zeroblob(func.length(cast(data_key.c.wrapped_key, LargeBinary))))
)
ERASE_VALUE: Final = (
    update(secret_version).where(secret_version.c.id == bindparam("row")).values(value=null())
)
RENAME: Final = update(secret).where(secret.c.id == bindparam("row")).values(path=bindparam("new_path"))
REPLACE_VALUE: Final = (
    update(secret_version).where(secret_version.c.id == bindparam("row")).values(value=bindparam("new_value"))
)
FORGET_VERSION: Final = (
    update(secret_version)
    .where(secret_version.c.id == bindparam("row"))
    .values(
        created=_ZERO,
        metadata=func.zeroblob(func.length(cast(secret_version.c.metadata, LargeBinary))),
        value=null(),
    )
)

# Pages, and counts.

_NO_OFFSET: Final = literal_column("0", Integer)  # SQLAlchemy writes one into every SELECT with a limit


# A stretch of secrets, deleted ones too. There is one lower bound: given two, SQLite seeks by the first and
# reads on to the second, so that each page would cost more than the one before it.
LISTING: Final = (
    select(
        _PATH,
        _number(secret.c.latest).label("latest"),
        _METADATA,
        _IS_DESTROYED,
        secret.c.deleted_at.is_not(None).label("deleted"),
    )
    .join(secret_version, _IS_LATEST)
    .where(secret.c.path >= bindparam("first"), secret.c.path < bindparam("end"))
    .order_by(secret.c.path)
    .limit(bindparam("limit"))
    .offset(_NO_OFFSET)
)
HISTORY: Final = (
    select(_number(secret_version.c.version).label("version"), _METADATA, _IS_DESTROYED)
    .where(
        secret_version.c.secret_id == bindparam("secret_id"), secret_version.c.version < bindparam("before")
    )
    .order_by(secret_version.c.version.desc())
    .limit(bindparam("limit"))
    .offset(_NO_OFFSET)
)
# Ids have no gaps (``schema``), so the largest are the counts.
LAST_IDS: Final = select(
    select(func.max(secret.c.id)).scalar_subquery().label("last_secret"),
    select(func.max(secret_version.c.id)).scalar_subquery().label("last_version"),
)
COUNT_DELETED: Final = (
    select(func.count().label("deleted")).select_from(secret).where(secret.c.deleted_at.is_not(None))
)
ENDS: Final = select(
    *(
        select(end(table.c.id)).scalar_subquery().label(f"{name}_{table.name}")
        for table in (secret, secret_version, data_key)
        for name, end in (("first", func.min), ("last", func.max))
    )
)

# Rows as the sealed state takes them, in the order of their ids (``elements``).

_AFTER: Final[BindParameter[int]] = bindparam("after")

# Each is looked up as well, by the index by which it is looked up when it is asked for: what that does not
# find is hidden, though it is there.
_OTHER_SECRET: Final = secret.alias()
_OTHER_VERSION: Final = secret_version.alias()
_FOUND_HEAD: Final = select(_OTHER_SECRET.c.id).where(_OTHER_SECRET.c.path == secret.c.path).scalar_subquery()
_FOUND_VERSION: Final = (
    select(_OTHER_VERSION.c.id)
    .where(
        _OTHER_VERSION.c.secret_id == secret_version.c.secret_id,
        _OTHER_VERSION.c.version == secret_version.c.version,
    )
    .scalar_subquery()
)

HEADS: Final = (
    select(
        secret.c.id,
        case((secret.c.id == _FOUND_HEAD, _if_typed(secret.c.path, "text"))),
        secret.c.latest,
        secret.c.deleted_at,
    )
    .where(secret.c.id > _AFTER)
    .order_by(secret.c.id)
    .limit(bindparam("limit"))
    .offset(_NO_OFFSET)
)
VERSIONS: Final = (
    select(*_VERSION_COLUMNS, case((secret_version.c.id == _FOUND_VERSION, _WRAPPED_KEY)))
    .outerjoin(data_key, data_key.c.id == secret_version.c.id)
    .where(secret_version.c.id > _AFTER)
    .order_by(secret_version.c.id)
    .limit(bindparam("limit"))
    .offset(_NO_OFFSET)
)

# The store itself, its keyslots and master keys.

_IS_MASTER: Final = (master_key.c.key_id == bindparam("key_id")) & (
    master_key.c.version == bindparam("version")
)

IDENTITIES: Final = select(store_meta.c.id)
REVISIONS: Final = select(alembic_version.c.version_num)
META: Final = select(store_meta.c.store_id, store_meta.c.slot_table_mac)
META_ROW: Final = select(store_meta.c.store_id, store_meta.c.created, store_meta.c.slot_table_mac)
SEALED: Final = select(store_meta.c.sealed_state)
SEAL: Final = (
    update(store_meta)
    .where(store_meta.c.sealed_state == bindparam("before"))
    .values(sealed_state=bindparam("sealed"))
)
REPLACE_MAC: Final = (
    update(store_meta)
    .where(store_meta.c.slot_table_mac == bindparam("expected_mac"))
    .values(slot_table_mac=bindparam("mac"))
)
SLOTS: Final = select(
    keyslot.c.name, keyslot.c.kind, keyslot.c.header, keyslot.c.wrapped_root, keyslot.c.created
).order_by(keyslot.c.position)
LAST_SLOT: Final = select(func.max(keyslot.c.position).label("last_slot"))
SLOT_ROWS: Final = select(
    keyslot.c.position,
    keyslot.c.name,
    keyslot.c.kind,
    keyslot.c.created,
    keyslot.c.header,
    keyslot.c.wrapped_root,
)
# All rows, without a condition: SQLite then zeroes the table's pages whole, so that the wrapped root of a
# removed slot cannot survive in the slack of a page (``schema``).
REMOVE_SLOTS: Final = delete(keyslot)
ACTIVE_MASTER: Final = select(master_key.c.id).where(
    _IS_MASTER & (master_key.c.state == literal_column(f"'{KeyState.ACTIVE.value}'"))
)
LAST_MASTER: Final = select(func.max(master_key.c.id).label("last_master"))
MASTER_ROWS: Final = select(
    master_key.c.id,
    master_key.c.key_id,
    master_key.c.version,
    master_key.c.name,
    master_key.c.state,
    master_key.c.custody,
    master_key.c.created,
    master_key.c.wraps_reserved,
    master_key.c.retiring,
    master_key.c.wrapped,
)
MASTER_ROW: Final = MASTER_ROWS.where(_IS_MASTER)
MASTERS: Final = select(
    master_key.c.key_id,
    master_key.c.name,
    master_key.c.version,
    master_key.c.state,
    master_key.c.custody,
    master_key.c.wrapped,
    master_key.c.wraps_reserved,
    master_key.c.created,
    master_key.c.retiring,
).order_by(master_key.c.name, master_key.c.version)
MASTERS_NAMED: Final = select(master_key.c.key_id, master_key.c.version).where(
    master_key.c.name == bindparam("name")
)
RESERVE: Final = (
    update(master_key)
    .where(master_key.c.id == bindparam("row"))
    .values(wraps_reserved=bindparam("new_wraps_reserved"))
)
SET_STATE: Final = (
    update(master_key).where(master_key.c.id == bindparam("row")).values(state=bindparam("new_state"))
)
REWRITE_MASTER: Final = (
    update(master_key)
    .where(master_key.c.id == bindparam("row"))
    .values(
        state=bindparam("new_state"), retiring=bindparam("new_retiring"), wrapped=bindparam("new_wrapped")
    )
)

# Data keys, and what wraps them.

WRAPPED: Final = (
    select(
        data_key.c.id,
        _PATH,
        _number(secret_version.c.version).label("version"),
        _METADATA,
        cast(data_key.c.wrapped_key, LargeBinary).label("wrapped_key"),
    )
    .join(secret_version, secret_version.c.id == data_key.c.id)
    .join(secret, secret.c.id == secret_version.c.secret_id)
    .where(data_key.c.master_key == bindparam("master"), data_key.c.id > _AFTER)
    .order_by(data_key.c.id)
    .limit(bindparam("limit"))
    .offset(_NO_OFFSET)
)
_RETIRES: Final = master_key.c.retiring == literal_column("1", Integer)
COUNT_RETIRING: Final = (
    select(func.count().label("count"))
    .select_from(data_key)
    .where(
        data_key.c.master_key.in_(
            select(master_key.c.id).where(master_key.c.retiring == literal_column("1", Integer))
        )
    )
)
VERSION_AT: Final = _VERSIONS.where(secret_version.c.id == bindparam("row"))
REWRAP: Final = (
    update(data_key)
    .where(data_key.c.id == bindparam("row"))
    .values(master_key=bindparam("new_master"), wrapped_key=bindparam("new_wrapped"))
)

ADD_META: Final = _adding(store_meta, "id", "store_id", "created", "slot_table_mac", "sealed_state")
ADD_REVISION: Final = _adding(alembic_version, "version_num")
ADD_SLOT: Final = _adding(keyslot, "position", "name", "kind", "created", "header", "wrapped_root")
ADD_MASTER: Final = _adding(master_key, *master_key.columns.keys())
