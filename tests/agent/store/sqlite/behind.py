"""What stands in a store that is open, and changes to it behind its back, in its own connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from keyholt_agent.store.sqlite.backend import SqliteBackend

__all__ = ["everything", "put_back", "query", "sealed_record"]

TABLES: Final = ("store_meta", "keyslot", "master_key", "secret", "secret_version", "data_key")

Rows = list[dict[str, Any]]


def query(backend: SqliteBackend, statement: str, values: tuple[object, ...] = ()) -> Rows:
    """Run a statement; its rows."""
    cursor = backend._usable().connection.execute(statement, values)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def everything(backend: SqliteBackend) -> dict[str, Rows]:
    """Every row of every table that the sealed state is of, and what is sealed."""
    return {table: query(backend, f"SELECT * FROM {table}") for table in TABLES}


def sealed_record(backend: SqliteBackend) -> bytes:
    """What is sealed."""
    (row,) = query(backend, "SELECT sealed_state FROM store_meta")
    record = row["sealed_state"]
    assert isinstance(record, bytes)
    return record


def put_back(backend: SqliteBackend, before: dict[str, Rows]) -> None:
    """Set every row back to what it was."""
    query(backend, "PRAGMA foreign_keys = OFF")
    for table, rows in before.items():
        query(backend, f"DELETE FROM {table}")
        for row in rows:
            places = ", ".join("?" * len(row))
            query(backend, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))
    query(backend, "PRAGMA foreign_keys = ON")
    assert everything(backend) == before
