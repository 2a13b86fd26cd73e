"""Every statement of the store, in SQLAlchemy Core over ``schema``; `make generate` makes ``sql`` of them.

A running agent loads the compiled texts alone. Loading SQLAlchemy would cost it 120 ms of its start and 16
MB, and using it half of the processor time of a write.

- One statement a public name; what it is given stands in it as ``bindparam``.
- Nothing here reads or writes by anything but an index: ``tests/agent/store/sqlite/test_statements.py``.
- What is to be bytes is read as bytes, whatever the file says that it is: a damaged row hinders no other.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Insert,
    Integer,
    LargeBinary,
    Select,
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

from keyholt_agent.store.sqlite.schema import (
    alembic_version,
    data_key,
    keyslot,
    master_key,
    secret,
    secret_version,
    store_meta,
)

__all__ = [
    "ADD_KEY",
    "ADD_MASTER",
    "ADD_META",
    "ADD_REVISION",
    "ADD_SECRET",
    "ADD_SLOT",
    "ADD_VERSION",
    "ADVANCE",
    "COUNT_DELETED",
    "ERASE_KEY",
    "ERASE_VALUE",
    "HEAD",
    "HISTORY",
    "IDENTITIES",
    "LAST_IDS",
    "LATEST",
    "LISTING",
    "LISTING_BELOW",
    "MASTER",
    "MASTERS",
    "MASTERS_NAMED",
    "META",
    "NAMED",
    "REMOVE_SLOTS",
    "REPLACE_MAC",
    "RESERVE",
    "REVISIONS",
    "SET_DELETED",
    "SET_STATE",
    "SLOTS",
    "VERSION_ID",
]


def _adding(table: Table, *columns: str) -> Insert:
    return insert(table).values({name: bindparam(name) for name in columns})


# Secrets and their versions.

_METADATA: Final = cast(secret_version.c.metadata, LargeBinary)
_IS_DESTROYED: Final = secret_version.c.value.is_(None)
_SIZE: Final = func.length(secret_version.c.value)
_STORED: Final = (
    _METADATA,
    cast(data_key.c.wrapped_key, LargeBinary),
    _SIZE,
    # A large value is not read by whoever has no room for it.
    case((bindparam("most") >= _SIZE, cast(secret_version.c.value, LargeBinary))),
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
VERSION_ID: Final = select(secret_version.c.id).where(_IS_VERSION)

ADD_SECRET: Final = _adding(secret, "path", "latest")
ADD_VERSION: Final = _adding(secret_version, "secret_id", "version", "created", "metadata", "value")
ADD_KEY: Final = _adding(data_key, "id", "master_key", "wrapped_key")
ADVANCE: Final = (
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
    .values(wrapped_key=func.zeroblob(func.length(data_key.c.wrapped_key)))
)
ERASE_VALUE: Final = (
    update(secret_version).where(secret_version.c.id == bindparam("row")).values(value=null())
)

# Pages, and counts.

_NO_OFFSET: Final = literal_column("0", Integer)  # SQLAlchemy writes one into every SELECT with a limit


def _listing(*bounds: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """A page of live secrets, between bounds.

    There is one lower bound: given two, SQLite seeks by the first and reads on to the second, so that each
    page would cost more than the one before it.
    """
    return (
        select(cast(secret.c.path, LargeBinary), secret.c.latest, _METADATA, _IS_DESTROYED)
        .join(secret_version, _IS_LATEST)
        .where(secret.c.deleted_at.is_(None), *bounds)
        .order_by(secret.c.path)
        .limit(bindparam("limit"))
        .offset(_NO_OFFSET)
    )


LISTING: Final = _listing(secret.c.path >= bindparam("first"))
LISTING_BELOW: Final = _listing(secret.c.path >= bindparam("first"), secret.c.path < bindparam("end"))
HISTORY: Final = (
    select(secret_version.c.version, _METADATA, _IS_DESTROYED)
    .where(
        secret_version.c.secret_id == bindparam("secret_id"), secret_version.c.version < bindparam("before")
    )
    .order_by(secret_version.c.version.desc())
    .limit(bindparam("limit"))
    .offset(_NO_OFFSET)
)
# Ids have no gaps (``schema``), so the largest are the counts.
LAST_IDS: Final = select(
    select(func.max(secret.c.id)).scalar_subquery(), select(func.max(secret_version.c.id)).scalar_subquery()
)
COUNT_DELETED: Final = select(func.count()).select_from(secret).where(secret.c.deleted_at.is_not(None))

# The store itself, its keyslots and master keys.

_IS_MASTER: Final = (master_key.c.key_id == bindparam("key_id")) & (
    master_key.c.version == bindparam("version")
)

IDENTITIES: Final = select(store_meta.c.id)
REVISIONS: Final = select(alembic_version.c.version_num)
META: Final = select(store_meta.c.store_id, store_meta.c.slot_table_mac)
REPLACE_MAC: Final = (
    update(store_meta)
    .where(store_meta.c.slot_table_mac == bindparam("expected_mac"))
    .values(slot_table_mac=bindparam("mac"))
)
SLOTS: Final = select(
    keyslot.c.name, keyslot.c.kind, keyslot.c.header, keyslot.c.wrapped_root, keyslot.c.created
).order_by(keyslot.c.position)
# All rows, without a condition: SQLite then zeroes the table's pages whole, so that the wrapped root of a
# removed slot cannot survive in the slack of a page (``schema``).
REMOVE_SLOTS: Final = delete(keyslot)
MASTER: Final = select(master_key.c.id, master_key.c.state, master_key.c.wraps_reserved).where(_IS_MASTER)
MASTERS: Final = select(
    master_key.c.key_id,
    master_key.c.name,
    master_key.c.version,
    master_key.c.state,
    master_key.c.custody,
    master_key.c.wrapped,
    master_key.c.wraps_reserved,
    master_key.c.created,
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

ADD_META: Final = _adding(store_meta, "id", "store_id", "created", "slot_table_mac")
ADD_REVISION: Final = _adding(alembic_version, "version_num")
ADD_SLOT: Final = _adding(keyslot, "position", "name", "kind", "created", "header", "wrapped_root")
ADD_MASTER: Final = _adding(
    master_key, "key_id", "version", "name", "state", "custody", "created", "wraps_reserved", "wrapped"
)
