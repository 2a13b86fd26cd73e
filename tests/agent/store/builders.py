"""Rows and stores for the store's tests: made-up ciphertext, as the store never looks inside it."""

from __future__ import annotations

import hmac
import os
import sqlite3
import struct
import threading
from contextlib import asynccontextmanager, closing, contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.sealed_state import State
from keyholt_agent.store import (
    Cover,
    CreateStore,
    Custody,
    Head,
    KeyState,
    ListSecrets,
    MasterKeyRow,
    NewVersion,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    ReplaceRoot,
    Resealed,
    SlotRow,
    StoreSeed,
    open_store,
)
from keyholt_agent.store.key_commands import AddUp, PutInForce
from keyholt_agent.store.latest import NOBODY
from keyholt_agent.store.sqlite.backend import SqliteBackend
from keyholt_protocol.errors import IntegrityError, LockedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
    from pathlib import Path

    from keyholt_agent.sealed_state import PartialSum, StateKeeper
    from keyholt_agent.store import SecretVersion, SlotTable, Store
    from keyholt_agent.store.latest import LatestVersions

MASTER: Final = b"master key id 16"
CREATED: Final = 1_700_000_000
NEW_ROOT: Final = b"key of the state, of a new root"


class Keeper:
    """Keys of a sealed state, made up; all that are given no other key are one keeper to a store."""

    KEY: Final = b"key of the state"
    _RECORD: Final = struct.Struct(">Q32s32s")  # commits, the sum, a MAC over both

    def __init__(self, key: bytes = KEY) -> None:
        self._key = key
        self._guard = threading.Lock()
        self.users = 0
        self.given_up = False

    @contextmanager
    def in_use(self) -> Generator[None, None, None]:
        """Counted, as the real one does it: given up, it serves whoever has it already."""
        with self._guard:
            if self.given_up:
                raise LockedError
            self.users += 1
        try:
            yield
        finally:
            with self._guard:
                self.users -= 1

    def give_up(self) -> None:
        """Nobody gets the keys from now on."""
        with self._guard:
            self.given_up = True

    def element(self, row: bytes) -> int:
        assert self.users
        return int.from_bytes(blake2b(row, digest_size=32, key=self._key).digest(), "big")

    def add_up(self, rows: Iterable[bytes]) -> int:
        return sum(map(self.element, rows))

    def seal(self, state: State) -> bytes:
        assert self.users
        total = state.total.to_bytes(32, "big")
        return self._RECORD.pack(state.commits, total, self._mac(state.commits, total))

    def open(self, sealed: bytes) -> State:
        assert self.users
        if len(sealed) != self._RECORD.size:
            raise IntegrityError
        commits, total, mac = self._RECORD.unpack(sealed)
        if not hmac.compare_digest(mac, self._mac(commits, total)):
            raise IntegrityError
        return State(int.from_bytes(total, "big"), commits)

    def _mac(self, commits: int, total: bytes) -> bytes:
        return blake2b(struct.pack(">Q", commits) + total, digest_size=32, key=self._key).digest()


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
    number: int = 1,
    *,
    value: bytes | None = None,
    key: bytes | None = None,
    metadata: bytes | None = None,
    master: int = 1,
) -> NewVersion:
    """A version of a secret, random where nothing is given."""
    return NewVersion(
        version=number,
        created=CREATED,
        metadata=b"metadata %d" % number if metadata is None else metadata,
        wrapped_key=os.urandom(90) if key is None else key,
        value=os.urandom(106) if value is None else value,
        master_key_id=MASTER,
        master_key_version=master,
    )


def resealed(stored: SecretVersion, master: int = 1) -> Resealed:
    """A version as it is sealed for another path: each byte of key and value another one."""
    assert stored.wrapped_key is not None
    assert stored.value is not None
    return Resealed(
        wrapped_key=bytes(byte ^ 1 for byte in stored.wrapped_key),
        value=bytes(byte ^ 1 for byte in stored.value),
        master_key_id=MASTER,
        master_key_version=master,
    )


def make_store(directory: Path) -> None:
    """A new store in ``directory``, closed; a ``Keeper`` unseals it."""
    with running(directory) as backend:
        backend.run([CreateStore(seed=seed(), keeper=Keeper())])[0].unwrap()


@contextmanager
def running(directory: Path) -> Generator[SqliteBackend, None, None]:
    """The backend of the store in ``directory``, if there is one; it takes no writes yet."""
    backend = SqliteBackend(directory)
    backend.start()
    try:
        yield backend
    finally:
        backend.stop()


@contextmanager
def unsealed(directory: Path) -> Generator[SqliteBackend, None, None]:
    """The backend of a store that is whole, taking writes."""
    with running(directory) as backend:
        unseal(backend)
        yield backend


def unseal(backend: SqliteBackend, keeper: StateKeeper | None = None) -> None:
    """Add all rows up, and put a keeper in force.

    Raises:
        IntegrityError: they are not what was sealed.
    """
    keeper = keeper or Keeper()
    total = sum(part.total for part in portions(backend, keeper))
    backend.run([PutInForce(keeper=keeper, total=total)])[0].unwrap()


def portions(backend: SqliteBackend, keeper: StateKeeper, most: int = 1000) -> list[PartialSum]:
    """What all rows add up to, so many at a time."""
    parts: list[PartialSum] = []
    while not parts or parts[-1].after is not None:
        after = parts[-1].after if parts else None
        parts += [backend.run([AddUp(keeper=keeper, after=after, most=most)])[0].unwrap()]
    return parts


def rekey(backend: SqliteBackend, keeper: StateKeeper, *slots: SlotRow) -> None:
    """Put another keeper in force for good, as the keys of a new root would be, with other keyslots."""
    while backend.run([Cover(keeper=keeper, most=1000)])[0].unwrap() is not None:
        pass
    table, masters = (outcome.unwrap() for outcome in backend.run([ReadSlotTable(), ReadMasterKeys()]))
    backend.run([new_root(keeper, table, masters, slots)])[0].unwrap()


def new_root(
    keeper: StateKeeper, table: SlotTable, masters: Sequence[MasterKeyRow], slots: Sequence[SlotRow]
) -> ReplaceRoot:
    """The command that wraps all keys anew, and adds a version to each that has an active one."""
    newest = {row.key_id: row for row in sorted(masters, key=lambda row: row.version)}
    active = {row.key_id for row in masters if row.state is KeyState.ACTIVE}
    return ReplaceRoot(
        keeper=keeper,
        slots=tuple(slots),
        mac=os.urandom(8),
        expected_mac=table.mac,
        wrapped={(row.key_id, row.version): os.urandom(60) for row in masters},
        added=tuple(
            master(row.version + 1, key_id=row.key_id, name=row.name)
            for row in newest.values()
            if row.key_id in active
        ),
    )


@asynccontextmanager
async def opened(directory: Path, latest: LatestVersions = NOBODY) -> AsyncGenerator[Store, None]:
    """The store in ``directory``, open, found whole, and taking writes."""
    async with open_store(directory, latest) as store:
        await store.unseal(Keeper())
        yield store


async def head(store: Store, path: str) -> Head:
    """Where a path stands; one that was never written stands at 0."""
    try:
        return (await store.ask(ReadHistory(path=path, before=None, limit=1)))[0]
    except NotFoundError:
        return Head(latest=0, deleted_at=None)


async def listed(store: Store, prefix: str = "", *, after: str | None = None, limit: int = 100) -> list[str]:
    """The paths of a page of live secrets."""
    page = await store.ask(ListSecrets(prefix=prefix, after=after, limit=limit))
    return [entry.path for entry in page.secrets]


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
