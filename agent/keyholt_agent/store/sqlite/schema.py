"""The tables, in SQLAlchemy Core; the migrations build them too, and a test keeps both the same.

A running agent does not load this: ``sql`` has what comes of it.

- Rows of ``secret``, ``secret_version`` and ``data_key`` are never deleted, and their ids are 1, 2, 3 ...
  without a gap: the largest id is the count, and new rows only ever go to the right edge of a tree.
- A wrapped data key has a table of its own, and is overwritten there by zeros of the same length. In a
  table whose pages get rebalanced (rows of any size, inserted in the middle or shrunk) SQLite leaves
  copies of cells behind in the slack of pages, ``secure_delete`` or not: 2 of 1,215 destroyed keys were
  still found in the file. A page that only grows at the end and is only overwritten in place is never
  rebalanced.
- Rows of ``master_key`` are numbered from 1,000 on: a reference to one takes two bytes for the next thirty
  thousand, so that rewrapping a data key too overwrites it in place.
- A destroyed version is one whose ``value`` is NULL.
- A purged secret is one whose path is none that anybody can ask for: its rows say nothing (``paths``). What
  SQLite left of it in the slack of pages goes with a rebuild of the whole (``Database.rebuild``).
- Wide columns stand last, so that listing never reads a value's overflow pages.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = [
    "METADATA",
    "alembic_version",
    "data_key",
    "keyslot",
    "master_key",
    "secret",
    "secret_version",
    "store_meta",
]

METADATA: Final = MetaData()

store_meta: Final = Table(
    "store_meta",
    METADATA,
    Column("id", Integer, primary_key=True),  # always 1
    Column("store_id", LargeBinary, nullable=False),
    Column("created", Integer, nullable=False),
    Column("slot_table_mac", LargeBinary, nullable=False),
    Column("sealed_state", LargeBinary, nullable=False),
)

keyslot: Final = Table(
    "keyslot",
    METADATA,
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("wrapped_root", LargeBinary, nullable=False),
)

master_key: Final = Table(
    "master_key",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key_id", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("custody", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("wraps_reserved", Integer, nullable=False),
    Column("retiring", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    UniqueConstraint("key_id", "version"),
    UniqueConstraint("name", "version"),
)

secret: Final = Table(
    "secret",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("latest", Integer, nullable=False),
    Column("deleted_at", Integer),
)
# Only tombstones are in it, so live secrets pay nothing, and counting tombstones reads no other row.
Index("secret_deleted", secret.c.deleted_at, sqlite_where=text("deleted_at IS NOT NULL"))

secret_version: Final = Table(
    "secret_version",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("secret_id", Integer, ForeignKey("secret.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", Integer, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    Column("value", LargeBinary),
    UniqueConstraint("secret_id", "version"),
)

data_key: Final = Table(
    "data_key",
    METADATA,
    Column("id", Integer, ForeignKey("secret_version.id"), primary_key=True),
    Column("master_key", Integer, ForeignKey("master_key.id"), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Index("data_key_master", "master_key"),  # for rewrap: the keys of one master key version
)

alembic_version: Final = Table(
    "alembic_version",
    MetaData(),  # alembic's own, so not among the tables that migrations are compared with
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
