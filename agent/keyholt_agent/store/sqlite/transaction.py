"""What an answer works with, inside a transaction: statements, and the elements that they change."""

from __future__ import annotations

from sqlite3 import Connection, Cursor
from typing import Final

__all__ = ["Transaction", "row_id"]


class Transaction:
    """One transaction of the store.

    Args:
        connection: in which it has begun.

    Attributes:
        execute: runs a statement with its values.
        added: rows that are there from now on, in the encoding of ``elements``.
        removed: rows that are there no more.
        add, remove: take a row down as such.
    """

    __slots__ = ("add", "added", "execute", "remove", "removed")

    def __init__(self, connection: Connection) -> None:
        self.execute: Final = connection.execute
        self.added: Final[list[bytes]] = []
        self.removed: Final[list[bytes]] = []
        self.add: Final = self.added.append
        self.remove: Final = self.removed.append

    @property
    def changed(self) -> bool:
        """Whether there is any such row."""
        return bool(self.added or self.removed)


def row_id(added: Cursor) -> int:
    """The key of a row that a statement has added."""
    if added.lastrowid is None:
        raise AssertionError("no row was added")
    return added.lastrowid
