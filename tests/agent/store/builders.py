"""Rows and stores for the store's tests: made-up ciphertext, as the store never looks inside it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.store import (
    CreateStore,
    Custody,
    Head,
    KeyState,
    MasterKeyRow,
    NewVersion,
    ReadHistory,
    SlotRow,
    StoreSeed,
)
from keyholt_agent.store.sqlite.backend import SqliteBackend
from keyholt_protocol.errors import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from keyholt_agent.store import SecretVersion, Store

MASTER: Final = b"master key id 16"
CREATED: Final = 1_700_000_000


class Latest:
    """Keeps the latest versions that a store tells of, of so many paths at most."""

    def __init__(self, most: int = 1000) -> None:
        self.epoch = 0
        self.rows: dict[str, SecretVersion] = {}
        self._most = most

    def keep(self, path: str, row: SecretVersion) -> None:
        self.rows.pop(path, None)
        self.rows[path] = row
        if len(self.rows) > self._most:
            del self.rows[next(iter(self.rows))]

    def evict(self, path: str) -> None:
        self.rows.pop(path, None)

    def drop(self) -> None:
        self.rows.clear()
        self.epoch += 1


def master(version: int = 1, **changes: object) -> MasterKeyRow:
    """A row of the master key ``default``."""
    fields: dict[str, object] = {
        "key_id": MASTER,
        "name": "default",
        "version": version,
        "state": KeyState.ACTIVE,
        "custody": Custody.SOFTWARE,
        "wrapped": os.urandom(60),
        "wraps_reserved": 0,
        "created": CREATED,
    }
    return MasterKeyRow(**(fields | changes))  # type: ignore[arg-type]


def slot(name: str = "passphrase") -> SlotRow:
    """A keyslot with a wrapped root of its own."""
    return SlotRow(
        name=name, kind="passphrase", header=name.encode(), wrapped_root=os.urandom(60), created=CREATED
    )


def seed() -> StoreSeed:
    """What a store starts with: one keyslot, one master key."""
    return StoreSeed(
        store_id=b"store id of 16 b",
        created=CREATED,
        slots=(slot(),),
        slot_table_mac=b"mac 0",
        master_key=master(),
    )


def version(
    number: int = 1, *, value: bytes | None = None, key: bytes | None = None, metadata: bytes | None = None
) -> NewVersion:
    """A version of a secret, random where nothing is given."""
    return NewVersion(
        version=number,
        created=CREATED,
        metadata=b"metadata %d" % number if metadata is None else metadata,
        wrapped_key=os.urandom(90) if key is None else key,
        value=os.urandom(106) if value is None else value,
        master_key_id=MASTER,
        master_key_version=1,
    )


def make_store(directory: Path) -> None:
    """A new store in ``directory``, closed."""
    backend = SqliteBackend(directory)
    backend.start()
    try:
        backend.run([CreateStore(seed=seed())])[0].unwrap()
    finally:
        backend.stop()


async def head(store: Store, path: str) -> Head:
    """Where a path stands; one that was never written stands at 0."""
    try:
        return (await store.ask(ReadHistory(path=path, before=None, limit=1)))[0]
    except NotFoundError:
        return Head(latest=0, deleted_at=None)


async def started() -> None:
    """Let every task that was started before run up to its first wait: trio shuffles those of one pass."""
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


def sql(state: Path, *statements: str) -> None:
    """Change a closed store behind the agent's back."""
    with closing(sqlite3.connect(state / "store.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
