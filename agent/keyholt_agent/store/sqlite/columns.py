"""What a column may hold, and a cursor that gives no row in which it holds anything else.

SQLite keeps any value in any column, and whoever can write the file can forge one: text where bytes belong, a
float for a version, 900 MB for a wrapped key. Every row of a statement of ``sql`` is held against the table
below before anything else sees it.

- A value larger than any that the agent writes is not read: SQLite itself refuses it before it takes memory
  for it (``LARGEST``). What is smaller than that, and too large for its column, is read and refused here.
- One forged row of a page does not hide the others. The statements of pages see to that themselves: where a
  column holds what it must not, they give an empty path, no metadata, version 0, which nobody can have
  written, and which the listing knows how to tell.
- A statement gives no more rows than the agent can have written, where all of them are kept at once.
- Columns go by the names that the statements give them; one that is not in the table is a defect.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final, NamedTuple

from keyholt_agent.store.sqlite import sql
from keyholt_protocol.errors import IntegrityError
from keyholt_protocol.limits import MAX_TIME, MAX_VALUE, MAX_VERSION

__all__ = ["CHECKED", "COLUMNS", "HEAP_LIMIT", "LARGEST", "CheckedCursor"]

LARGEST: Final = MAX_VALUE + 1024 * 1024
"""Bytes of any one value, row or text that SQLite takes or gives: the largest sealed value, and what is kept
beside it in its row."""

HEAP_LIMIT: Final = 192 * 1024 * 1024
"""Bytes that SQLite takes in all: a batch of writes with its copies, and its pages. An index over forged keys
would have it take as much as the file is long."""

ABOVE_ALL: Final = 2**62
"""Above every id and count that can be; adding to one below it does not overflow."""


class Column(NamedTuple):
    """The type of a value, and its least and greatest; of bytes and text, of their length.

    ``optional``: there may be none.
    """

    type: type[Any]
    least: int
    most: int
    optional: bool = False


_ID: Final = Column(int, 1, ABOVE_ALL)
_LAST_ID: Final = Column(int, 1, ABOVE_ALL, optional=True)
_TIME: Final = Column(int, 0, MAX_TIME)
_NAME: Final = Column(str, 1, 256)
_WORD: Final = Column(str, 1, 64)
_SEALED: Final = Column(bytes, 1, 8 * 1024)

COLUMNS: Final[dict[str, Column]] = {
    "id": _ID,
    "latest": Column(int, 1, MAX_VERSION),
    "deleted_at": Column(int, 0, MAX_TIME, optional=True),
    "version": Column(int, 1, MAX_VERSION),
    "created": _TIME,
    "metadata": Column(bytes, 0, 8 * 1024),
    "wrapped_key": _SEALED,
    "size": Column(int, 0, ABOVE_ALL, optional=True),
    "value": Column(bytes, 0, LARGEST, optional=True),
    "last_secret": _LAST_ID,
    "last_version": _LAST_ID,
    "deleted": Column(int, 0, ABOVE_ALL),
    "version_num": _WORD,
    "store_id": Column(bytes, 16, 16),
    "slot_table_mac": Column(bytes, 1, 64),
    "name": _NAME,
    "kind": _WORD,
    "header": _SEALED,
    "wrapped_root": _SEALED,
    "key_id": Column(bytes, 16, 16),
    "state": _WORD,
    "custody": _WORD,
    "wrapped": _SEALED,
    "wraps_reserved": Column(int, 0, ABOVE_ALL),
    "retiring": Column(int, 0, 1),
    "last_master": _LAST_ID,
    "position": _ID,
    "last_slot": _LAST_ID,
    "sealed_state": _SEALED,
    "count": Column(int, 0, ABOVE_ALL),
}
"""By the name of a result's column."""

MOST_ROWS: Final[dict[str, int]] = {
    sql.META: 1,
    sql.IDENTITIES: 1,
    sql.REVISIONS: 1,
    sql.META_ROW: 1,
    sql.SEALED: 1,
    sql.SLOTS: 64,
    sql.SLOT_ROWS: 64,
    sql.MASTERS: 16 * 1024,
    sql.MASTER_ROWS: 16 * 1024,
    sql.MASTERS_NAMED: 16 * 1024,
}
"""Statements all of whose rows are kept at once. A store has 32 keyslots; 16,384 versions of a master key
last for 2^34 writes."""

PAGES: Final = frozenset({sql.LISTING, sql.HISTORY, sql.WRAPPED})
"""Statements that see to their rows themselves."""

ELEMENTS: Final = frozenset({sql.HEAD, sql.HEADS, sql.VERSIONS, sql.VERSION_ROW, sql.VERSION_AT, sql.ENDS})
"""Statements whose rows become elements of the sealed state, which has no place for another type."""

CHECKED: Final = frozenset(
    statement
    for statement in (getattr(sql, name) for name in sql.__all__ if name != "SCHEMA")
    if statement.startswith("SELECT") and statement not in PAGES | ELEMENTS
)
"""Statements whose rows are held against ``COLUMNS``."""


class CheckedCursor(sqlite3.Cursor):
    """Gives rows of the statements of ``sql`` that are as they must be.

    It closes itself when it raises: a statement that is not at its end would live on with the traceback, and
    keep the file locked after the connection was closed.

    Raises:
        IntegrityError: a row is not, or there are too many.
    """

    _columns: tuple[Column, ...]
    _left: int

    def execute(self, statement: str, values: Any = (), /) -> CheckedCursor:
        try:
            super().execute(statement, values)
        except BaseException:
            self.close()
            raise
        self._columns = _KNOWN.get(statement) or _columns_of(statement, self.description)
        self._left = MOST_ROWS.get(statement, -1)
        return self

    def __next__(self) -> Any:
        try:
            return self._checked(super().__next__())
        except StopIteration:
            raise
        except BaseException:
            self.close()
            raise

    def fetchone(self) -> Any:
        try:
            row = super().fetchone()
            return None if row is None else self._checked(row)
        except BaseException:
            self.close()
            raise

    def fetchall(self) -> list[Any]:
        return list(self)

    def _checked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._left:
            raise IntegrityError("a table of the store has more rows than the agent writes: restore a backup")
        self._left -= 1
        for value, (kind, least, most, optional) in zip(row, self._columns, strict=True):
            # Not isinstance: SQLite gives five types and no others.
            if type(value) is kind:
                if least <= (value if kind is int else len(value)) <= most:
                    continue
            elif value is None and optional:
                continue
            raise IntegrityError("a row of the store is damaged: restore a backup")
        return row


_KNOWN: Final[dict[str, tuple[Column, ...]]] = {}
"""The columns of the statements that were run so far."""


def _columns_of(statement: str, description: Any) -> tuple[Column, ...]:
    columns = _KNOWN[statement] = tuple(COLUMNS[name] for name, *_ in description)
    return columns
