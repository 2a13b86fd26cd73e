"""A store with a past, and forgeries of its rows: whoever has the file and SQLite, but no key, can make them.

``past`` has every kind of row, rows in earlier genuine states beside it, and is never opened itself: ``Past``
gives copies.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from keyholt_agent.store import (
    AddKeyslot,
    AddMasterVersion,
    CountWraps,
    DeleteSecret,
    DestroyVersion,
    PutSecret,
    UndeleteSecret,
)
from tests.agent.store.builders import (
    CREATED,
    MASTER,
    Keeper,
    make_store,
    master,
    rekey,
    slot,
    unsealed,
    version,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from keyholt_agent.store.commands import AnyCommand

__all__ = ["KEYS", "TABLES", "Forger", "Past", "make_past"]

Row = tuple[Any, ...]

KEYS: Final = {
    "store_meta": "id",
    "keyslot": "position",
    "master_key": "id",
    "secret": "id",
    "secret_version": "id",
    "data_key": "id",
}
"""The key of each table whose rows are elements."""

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "store_meta": ("store_id", "created", "slot_table_mac", "sealed_state"),
    "keyslot": ("position", "name", "kind", "created", "header", "wrapped_root"),
    "master_key": (
        "id",
        "key_id",
        "version",
        "name",
        "state",
        "custody",
        "created",
        "wraps_reserved",
        "retiring",
        "wrapped",
    ),
    "secret": ("id", "path", "latest", "deleted_at"),
    "secret_version": ("id", "secret_id", "version", "created", "metadata"),
    "data_key": ("id", "master_key", "wrapped_key"),
}
"""Every column that is part of an element, or sealed itself.

What is left out: a value, which its data key seals, and the key of ``store_meta``, which has to be 1 for a
store to be opened at all.
"""


class Forger:
    """A closed store, changed with SQLite alone; foreign keys hold nobody back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "store.db"

    @property
    def content(self) -> bytes:
        """All of the file."""
        return self._file.read_bytes()

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every row of a table, in the order of its keys."""
        with closing(sqlite3.connect(self._file)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(f"SELECT * FROM {table} ORDER BY {KEYS[table]}")
            return [dict(row) for row in found]

    def row(self, table: str, key: int) -> dict[str, Any] | None:
        """The row with a key, if there is one."""
        return next((row for row in self.rows(table) if row[KEYS[table]] == key), None)

    def type_of(self, table: str, key: int, column: str) -> str:
        """SQLite's word for the type of a row's column."""
        with closing(sqlite3.connect(self._file)) as connection:
            statement = f"SELECT typeof({column}) FROM {table} WHERE {KEYS[table]} = ?"
            ((found,),) = connection.execute(statement, (key,)).fetchall()
            return str(found)

    def run(self, statement: str, values: Row = ()) -> None:
        """Run one statement, which has to change something."""
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            assert connection.execute(statement, values).rowcount

    def set_column(self, table: str, key: int, column: str, value: object) -> None:
        """Change one column of a row."""
        self.run(f"UPDATE {table} SET {column} = ? WHERE {KEYS[table]} = ?", (value, key))

    def remove(self, table: str, key: int) -> None:
        """Remove a row."""
        self.run(f"DELETE FROM {table} WHERE {KEYS[table]} = ?", (key,))

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Add a row."""
        places = ", ".join("?" * len(row))
        self.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))

    def replace(self, table: str, *rows: dict[str, Any]) -> None:
        """Put rows in the place of those with the same keys."""
        for row in rows:
            self.remove(table, row[KEYS[table]])
        for row in rows:
            self.add(table, row)

    def without_index(self, table: str, constraint: str, row: dict[str, Any]) -> None:
        """Add a row to a table while SQLite knows nothing of its first unique index, which goes out of date.

        Args:
            constraint: the words in the table's definition that make the index.
        """
        index = f"sqlite_autoindex_{table}_1"
        with closing(sqlite3.connect(self._file)) as connection:
            named = "SELECT sql FROM sqlite_schema WHERE name = ?"
            ((definition,),) = connection.execute(named, (table,)).fetchall()
            entry = connection.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        without = definition.replace(f", {constraint}", "")
        assert without != definition
        define = "UPDATE sqlite_schema SET sql = ? WHERE name = ?"
        self._edit_schema((define, (without, table)), ("DELETE FROM sqlite_schema WHERE name = ?", (index,)))
        self.add(table, row)
        self._edit_schema(
            (define, (definition, table)), ("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", entry)
        )

    def _edit_schema(self, *statements: tuple[str, Row]) -> None:
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            for statement, values in statements:
                assert connection.execute(statement, values).rowcount


@dataclass(frozen=True, slots=True)
class Past:
    """Copies of one store, as it was after each of its transactions.

    Attributes:
        stages: state directories, the oldest first.
    """

    stages: Sequence[Path]

    @property
    def now(self) -> Forger:
        """The store as it is; to be read only."""
        return Forger(self.stages[-1])

    @property
    def earlier(self) -> Iterator[Forger]:
        """The store as it was, from the beginning on; to be read only."""
        return map(Forger, self.stages[:-1])

    def copy(self, place: Path) -> Forger:
        """A copy of the store as it is, to be forged."""
        shutil.rmtree(place, ignore_errors=True)
        return Forger(shutil.copytree(self.stages[-1], place))


LIFE: Final[tuple[AnyCommand, ...]] = (
    PutSecret(path="a", new=version(1)),
    PutSecret(path="b", new=version(1)),
    PutSecret(path="a", new=version(2)),
    DeleteSecret(path="b", deleted_at=CREATED + 1),
    UndeleteSecret(path="b"),
    DeleteSecret(path="b", deleted_at=CREATED + 2),
    PutSecret(path="c", new=version(1)),
    PutSecret(path="c", new=version(2)),
    DestroyVersion(path="c", version=1),
    CountWraps(key_id=MASTER, version=1, count=600, limit=1000),
    AddMasterVersion(row=master(2), retire=(MASTER, 1)),
    CountWraps(key_id=MASTER, version=2, count=600, limit=10_000),
    CountWraps(key_id=MASTER, version=2, count=600, limit=10_000),
    AddKeyslot(slot=slot("one"), mac=b"mac 1", expected_mac=b"mac 0"),
    AddKeyslot(slot=slot("two"), mac=b"mac 2", expected_mac=b"mac 1"),
)
"""``a`` has two versions, ``b`` is deleted for the second time, the first of two versions of ``c`` destroyed;
two master key versions, of which the first is retired, and three keyslots."""


def make_past(directory: Path) -> Past:
    """Live through ``LIFE``, and keep a copy of each stage in ``directory``."""
    present = directory / "present"
    make_store(present)
    stages = [shutil.copytree(present, directory / "0")]
    for number, command in enumerate(LIFE, 1):
        with unsealed(present) as backend:
            backend.run([command])[0].unwrap()
        stages.append(shutil.copytree(present, directory / str(number)))
    with unsealed(present) as backend:
        # A new root, with the same keys for the state, so that one keeper opens all stages.
        rekey(backend, Keeper(), slot("three"), slot("four"))
    return Past([*stages, shutil.copytree(present, directory / "rekeyed")])
