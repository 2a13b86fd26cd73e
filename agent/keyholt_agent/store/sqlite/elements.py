"""Rows as elements of the sealed state: one encoding a row, which no other row of any table has.

======  =====  =======================================================================
offset  bytes  field
======  =====  =======================================================================
0       1      table, see below
1       8      the row's key
9       ..     its columns, see below
======  =====  =======================================================================

Integers take 8 bytes, signed and big-endian; text (UTF-8) and bytes have their length before them in 4 bytes.

=====  ==================  ===========================================================
table  rows of             columns, in this order
=====  ==================  ===========================================================
1      ``store_meta``      store_id, created, slot_table_mac
2      ``keyslot``         name, kind, created, header, wrapped_root
3      ``master_key``      key_id, version, name, state, custody, created,
                           wraps_reserved, retiring, wrapped
4      ``secret``          latest; a byte, 1 if it is deleted; deleted_at, or 0; path,
                           which has no length before it
5      ``secret_version``  secret_id, version, created, master_key of its
                           ``data_key``; a byte, 1 if it is destroyed; metadata;
                           wrapped_key, which has no length before it
=====  ==================  ===========================================================

- A secret's value is no part of it: a data key seals one value only, and is an element in its wrapped form.
- The first nine bytes order the elements as a check reads them.
- A column of another type than the agent writes is ``IntegrityError``: whoever writes the file can put any
  type into any column (sqlite.org/datatype3.html).
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from keyholt_protocol.errors import IntegrityError
from keyholt_protocol.limits import MAX_VERSION

__all__ = [
    "END",
    "HEADS",
    "PLACE",
    "VERSIONS",
    "HeadColumns",
    "VersionColumns",
    "head",
    "keyslot",
    "master_key",
    "place",
    "store_meta",
    "version",
]

_META: Final = 1
_KEYSLOT: Final = 2
_MASTER_KEY: Final = 3
HEADS: Final = 4
VERSIONS: Final = 5

_META_TYPES: Final = (bytes, int, bytes)
_KEYSLOT_TYPES: Final = (str, str, int, bytes, bytes)
_MASTER_KEY_TYPES: Final = (bytes, int, str, str, str, int, int, int, bytes)

_ROW: Final = struct.Struct(">Bq")
PLACE: Final = _ROW.size
"""Bytes of an encoding by which rows are in order."""

END: Final = b"\xff" * PLACE
"""Behind the place of every row."""

_HEAD: Final = struct.Struct(">Bqq?q")
_VERSION: Final = struct.Struct(">Bqqqqq?I")
_INTEGER: Final = struct.Struct(">q")
_LENGTH: Final = struct.Struct(">I")


HeadColumns: TypeAlias = tuple[int, bytes, int, int | None]
"""The row's key, the path, its latest version, and since when it is deleted."""


def place(table: int, row: int) -> bytes:
    """The place of a row: how its encoding begins."""
    return _ROW.pack(table, row)


def head(columns: HeadColumns) -> bytes:
    """A path and where it stands."""
    row, path, latest, deleted_at = columns
    try:
        if 0 < latest <= MAX_VERSION:
            since = 0 if deleted_at is None else deleted_at
            return _HEAD.pack(HEADS, row, latest, deleted_at is not None, since) + path
    except (struct.error, TypeError):
        pass
    raise _forged("secret")


VersionColumns: TypeAlias = tuple[int, int, int, int, int, int, bytes, bytes]
"""The row's key, its secret's, the version, when it was created, its master key's row, 1 if it is destroyed,
the metadata, and the wrapped data key."""


def version(columns: VersionColumns) -> bytes:
    """A version of a secret and its data key."""
    *fixed, metadata, wrapped_key = columns
    try:
        return _VERSION.pack(VERSIONS, *fixed, len(metadata)) + metadata + wrapped_key
    except (struct.error, TypeError):
        raise _forged("secret_version") from None


def master_key(row: int, *columns: int | bytes | str) -> bytes:
    """A version of a master key."""
    return _encoded("master_key", _MASTER_KEY, row, _MASTER_KEY_TYPES, columns)


def keyslot(row: int, *columns: int | bytes | str) -> bytes:
    """A keyslot."""
    return _encoded("keyslot", _KEYSLOT, row, _KEYSLOT_TYPES, columns)


def store_meta(*columns: int | bytes | str) -> bytes:
    """The one row of the store itself, but for what is sealed there."""
    return _encoded("store_meta", _META, 1, _META_TYPES, columns)


def _encoded(
    name: str,
    table: int,
    row: int,
    types: tuple[type, ...],
    columns: tuple[int | bytes | str, ...],
) -> bytes:
    # Text and bytes of the same content would be encoded alike, and SQLite takes them for different.
    if tuple(map(type, columns)) != types:
        raise _forged(name)
    try:
        parts = [_ROW.pack(table, row)]
        for column in columns:
            if isinstance(column, int):
                parts.append(_INTEGER.pack(column))
            else:
                text = column.encode() if isinstance(column, str) else column
                parts += (_LENGTH.pack(len(text)), text)
        return b"".join(parts)
    except (struct.error, TypeError, UnicodeEncodeError):
        raise _forged(name) from None


def _forged(table: str) -> IntegrityError:
    return IntegrityError(
        f"the store is not as the agent left it: a row of the table {table} is none that the agent writes; "
        "restore a backup"
    )
