"""Makes a new store: under another name, whole and durable, and only then under its own.

- A kill at any instant leaves no store or a whole one. What a killed attempt left is removed by the next.
- An existing store is never touched: the directory is locked, so nobody else can make one meanwhile.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection
from typing import Final

from keyholt_agent.sealed_state import MODULUS, State, StateKeeper
from keyholt_agent.store.rows import StoreSeed
from keyholt_agent.store.sqlite import elements, keys, sql
from keyholt_agent.store.sqlite.database import REVISION, Database
from keyholt_agent.store.sqlite.home import APPLICATION_ID, StoreHome
from keyholt_agent.store.sqlite.transaction import Transaction
from keyholt_protocol.errors import AlreadyExistsError

__all__ = ["create_store", "remove_store"]

DRAFT_SUFFIXES: Final = ("", "-journal", "-wal", "-shm")
"""What SQLite may leave beside a database, and the database."""


def create_store(home: StoreHome, seed: StoreSeed, keeper: StateKeeper) -> None:
    """Create the store in ``home``, which must be claimed.

    Raises:
        AlreadyExistsError: there is a store; it is left as it is.
        sqlite3.Error, OSError: see ``failures.translate``; nothing is left behind.
    """
    if home.has_store():
        raise AlreadyExistsError(f"there is a store in {home.directory} already")
    remove_draft(home.draft)
    try:
        _build(home.draft, seed, keeper)
        _sync(home.draft)
        os.rename(home.draft, home.store)
        _sync_entry(home)
    except BaseException:
        with suppress(OSError):
            remove_draft(home.draft)
        raise


def remove_draft(draft: Path) -> None:
    """Remove what an attempt that was killed left behind."""
    for suffix in DRAFT_SUFFIXES:
        Path(f"{draft}{suffix}").unlink(missing_ok=True)


def remove_store(home: StoreHome) -> None:
    """Remove a store that was made just now, and cannot be used."""
    with suppress(OSError):
        remove_draft(home.store)


def _build(draft: Path, seed: StoreSeed, keeper: StateKeeper) -> None:
    # Made here rather than by SQLite, whose file mode would depend on the umask; its log copies the mode.
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = Database(draft)
    try:
        # A draft needs no journal of its own: an unfinished one is thrown away.
        database.pragma("journal_mode=OFF")
        database.pragma(f"application_id={APPLICATION_ID}")
        with keeper.in_use(), database.transaction() as connection:
            _fill(connection, seed, keeper)
        database.pragma("journal_mode=WAL")
    finally:
        database.close()


def _fill(connection: Connection, seed: StoreSeed, keeper: StateKeeper) -> None:
    # What the migrations would build (a test holds the two together), without loading what runs them.
    for _, _, text in sql.SCHEMA:
        connection.execute(text)
    connection.execute(sql.ADD_REVISION, {"version_num": REVISION})
    transaction = Transaction(connection)
    keys.insert_slots(transaction, seed.slots)
    keys.insert_master_key(transaction, seed.master_key)
    transaction.add(elements.store_meta(seed.store_id, seed.created, seed.slot_table_mac))
    meta = {
        "id": 1,
        "store_id": seed.store_id,
        "created": seed.created,
        "slot_table_mac": seed.slot_table_mac,
        "sealed_state": keeper.seal(State(keeper.add_up(transaction.added) % MODULUS, 0)),
    }
    connection.execute(sql.ADD_META, meta)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_entry(home: StoreHome) -> None:
    try:
        home.sync()
    except OSError:
        # Not known to last, so not to be found again by somebody who was told that it failed.
        home.store.unlink(missing_ok=True)
        raise
