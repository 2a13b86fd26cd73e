"""The store as the agent's tasks see it: async methods, and the cache that spares most of them.

- A method that changes something returns only after the change is durable.
- A caller that is cancelled stops waiting; a write is run all the same, whole or not at all.
- The cache is changed only where answers are delivered, in the store's order: trio wakes tasks in an
  order of its own, so a task that filled the cache itself could put an old record over a newer one.
- It knows no key and no plaintext, and decides nothing about who may do what.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import trio
from outcome import Outcome, Value

from keyholt_agent.store import commands
from keyholt_agent.store.cache import SecretCache
from keyholt_agent.store.core import StoreCore
from keyholt_agent.store.records import (
    Head,
    MasterKeyRow,
    NewVersion,
    SecretSummary,
    SecretVersion,
    SlotRow,
    SlotTable,
    StoreSeed,
    StoreStatistics,
    VersionSummary,
)
from keyholt_agent.store.writer import StoreThread
from keyholt_protocol.errors import BusyError, StoreUnavailableError

__all__ = ["DEFAULT_CACHE_BYTES", "Store", "open_store"]

DEFAULT_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Bytes of ciphertext cache: about 90,000 small secrets."""

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of writes that wait for the store's thread; a caller that left does not take its own back."""

SMALL_WRITE: Final = 64 * 1024
"""Bytes up to which a write may take the last quarter of those: large ones of others do not keep it out."""

WAITING_COST: Final = 2 * 1024
"""Bytes that a waiting write takes beside its value; without them endlessly many empty ones could wait."""

T = TypeVar("T")


@asynccontextmanager
async def open_store(
    directory: Path, *, cache_bytes: int = DEFAULT_CACHE_BYTES
) -> AsyncGenerator[Store, None]:
    """Claim ``directory`` and open its store; both are given up when the block ends, after what is queued.

    Without a store in it the methods raise ``UninitialisedError``, until ``Store.create``.

    Raises:
        StoreBusyError: another agent has the directory.
        StoreNewerError, StoreForeignError, StoreDamagedError: the store is refused; the message says why.
        StoreUnavailableError: the directory or the file cannot be used.
    """
    cache = SecretCache(cache_bytes)
    core = StoreCore(directory)
    desk = _Desk(cache)
    thread: StoreThread[_Waiter] = StoreThread(core, trio.lowlevel.current_trio_token(), desk)
    store = Store(core, cache, thread, desk)
    # Shielded on both ends: the thread holds the lock and the files until it has reported, and what is
    # queued is finished however much of a hurry there is.
    with trio.CancelScope(shield=True):
        thread.start()
        await desk.opened.wait()
    try:
        if desk.refusal is not None:
            raise desk.refusal
        yield store
    finally:
        store.close()
        with trio.CancelScope(shield=True):
            await desk.closed.wait()
        thread.join()


class Store:
    """An open store; made by ``open_store``. Times are whole seconds since the epoch."""

    def __init__(
        self, core: StoreCore, cache: SecretCache, thread: StoreThread[_Waiter], desk: _Desk
    ) -> None:
        self._desk = desk
        self._core = core
        self._cache = cache
        self._thread = thread
        self._closed = False
        self._reading_large = trio.Lock()

    @property
    def initialised(self) -> bool:
        """Whether there is a store; False until ``create`` where there was none."""
        return self._core.initialised  # one attribute, only ever set once: safe to read from this thread

    async def create(self, seed: StoreSeed) -> None:
        """Make the store, whole or not at all.

        Raises:
            AlreadyExistsError: there is one; it is left as it is.
        """
        await self._ask(commands.CreateStore(seed=seed))

    def cached_secret(self, path: str, version: int | None) -> SecretVersion | None:
        """The latest version, if it is cached and is the one asked for; None says nothing: then read."""
        return self._cache.get(path, version)

    async def read_secret(self, path: str, version: int | None) -> SecretVersion:
        """One version of a live secret, None for the latest, which is then cached.

        Raises:
            NotFoundError: never written, deleted, or no such version; the message says which.
        """
        record = await self._ask(commands.ReadSecret(path=path, version=version))
        if isinstance(record, SecretVersion):
            return record
        async with self._reading_large:  # one at a time, or their readers' number would be the memory's bound
            return await self._ask(commands.ReadLargeSecret(path=path, version=version))

    async def read_head(self, path: str) -> Head:
        """Where ``path`` stands; ``latest`` is 0 if it was never written."""
        return await self._ask(commands.ReadHead(path=path))

    async def put_secret(self, path: str, new: NewVersion, *, deleted: bool | None = None) -> None:
        """Write a version, durably, if it is the next one of ``path``, which is live then.

        Args:
            deleted: whether the path, if there is such a one, has to be deleted before; None for either.

        Raises:
            HeadMovedError: it is not the next one, or not ``deleted``; ``head`` says where the path stands.
        """
        await self._ask(commands.PutSecret(path=path, new=new, deleted=deleted))

    async def delete_secret(self, path: str, deleted_at: int) -> int:
        """Put a tombstone on a secret; its versions stay.

        Returns:
            The latest version.

        Raises:
            NotFoundError: never written, or deleted already.
        """
        return await self._ask(commands.DeleteSecret(path=path, deleted_at=deleted_at))

    async def undelete_secret(self, path: str) -> int:
        """Take the tombstone away again.

        Returns:
            The latest version, which is in force again.

        Raises:
            NotFoundError: never written.
            AlreadyExistsError: not deleted.
        """
        return await self._ask(commands.UndeleteSecret(path=path))

    async def destroy_version(self, path: str, version: int) -> None:
        """Destroy a version for good: when this returns its wrapped key is in no file of the store.

        Of a deleted secret too. Destroying again is no error.

        Raises:
            NotFoundError: no such path or version.
        """
        await self._ask(commands.DestroyVersion(path=path, version=version))

    async def list_secrets(self, prefix: str, after: str | None, limit: int) -> list[SecretSummary]:
        """Up to ``limit`` live secrets below ``prefix`` and after ``after``, in the order of code points.

        Fewer, but two if there are so many, once they come to ``LISTING_BYTES``. A path that is no text,
        which only damage makes, has lone surrogates in it.
        """
        return await self._ask(commands.ListSecrets(prefix=prefix, after=after, limit=limit))

    async def history(self, path: str, before: int | None, limit: int) -> tuple[Head, list[VersionSummary]]:
        """The head and up to ``limit`` versions below ``before``, newest first; of a deleted secret too.

        Fewer, but two if there are so many, once they come to ``LISTING_BYTES``.

        Raises:
            NotFoundError: never written.
        """
        return await self._ask(commands.ReadHistory(path=path, before=before, limit=limit))

    async def slot_table(self) -> SlotTable:
        """The store's id, its keyslots in order, and their MAC (unverified here)."""
        return await self._ask(commands.ReadSlotTable())

    async def replace_slot_table(self, slots: Sequence[SlotRow], mac: bytes, *, expected_mac: bytes) -> None:
        """Put ``slots`` in the place of all keyslots; of those left out nothing remains in the files.

        Args:
            slots: every keyslot there is to be, in order.
            mac: over all of ``slots``.
            expected_mac: the MAC of the table that ``slots`` was worked out from.

        Raises:
            SlotTableMovedError: the table changed since; read it again.
        """
        await self._ask(commands.ReplaceSlotTable(slots=tuple(slots), mac=mac, expected_mac=expected_mac))

    async def master_keys(self) -> list[MasterKeyRow]:
        """Every version of every master key, by name and version."""
        return await self._ask(commands.ReadMasterKeys())

    async def reserve_wraps(self, key_id: bytes, version: int, count: int, limit: int) -> None:
        """Count ``count`` wraps under the active master key version, durably, before they are made.

        Raises:
            WrapLimitError: it would come to more than ``limit``; add a version.
            ConflictError: that version is not active.
            NotFoundError: no such version.
        """
        await self._ask(commands.ReserveWraps(key_id=key_id, version=version, count=count, limit=limit))

    async def add_master_version(self, row: MasterKeyRow, retire: tuple[bytes, int] | None = None) -> None:
        """Insert a master key version, and make the active version ``retire`` decrypt-only with it.

        Raises:
            ConflictError: the version to retire is not active; somebody else rotated.
            AlreadyExistsError: there is such a version, or the name is another key's.
        """
        await self._ask(commands.AddMasterVersion(row=row, retire=retire))

    async def statistics(self) -> StoreStatistics:
        """Counts and sizes; takes no longer for a large store."""
        counts = await self._ask(commands.CountSecrets())
        return StoreStatistics(
            secrets=counts.paths - counts.deleted,
            deleted=counts.deleted,
            versions=counts.versions,
            bytes=counts.size,
            cache_entries=len(self._cache),
            cache_bytes=self._cache.size,
            cache_limit=self._cache.limit,
        )

    def drop_cache(self) -> None:
        """Forget every cached record, those still on their way from the store's thread included."""
        self._cache.drop()

    def close(self) -> None:
        """Take nothing more, and have the thread end after what is queued; ``open_store`` does it."""
        if not self._closed:
            self._closed = True
            self._thread.stop()

    async def _ask(self, command: commands.Command[T]) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StoreUnavailableError("the agent is shutting down")
        waiter = _Waiter(command, self._cache.epoch)
        self._desk.take_in(command)
        self._thread.submit(waiter)
        answer: T = await trio.lowlevel.wait_task_rescheduled(waiter.abandon)
        return answer


class _Waiter:
    """A task waiting for the answer to its command; ``task`` is None once it has stopped waiting."""

    __slots__ = ("command", "epoch", "task")

    def __init__(self, command: commands.AnyCommand, epoch: int) -> None:
        self.command = command
        self.epoch = epoch
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer; once not, never again. Asked by the store's thread."""
        return self.task is not None

    def abandon(self, _: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class _Desk:
    """Takes what the store's thread delivers: first the effects on the cache, then the waiting tasks.

    Attributes:
        opened: set once the store was opened or refused.
        refusal: why it was refused.
        closed: set once the thread is done.
    """

    def __init__(self, cache: SecretCache) -> None:
        self._cache = cache
        self._waiting_bytes = 0
        self.opened = trio.Event()
        self.refusal: Exception | None = None
        self.closed = trio.Event()

    def started(self, refusal: Exception | None) -> None:
        self.refusal = refusal
        self.opened.set()

    def take_in(self, command: commands.AnyCommand) -> None:
        """Count the bytes of a write until it is answered, whether or not its caller still waits.

        Raises:
            BusyError: too much waits already; somebody asks faster than the disk takes it.
        """
        weight = _waiting_bytes(command)
        limit = MAX_WAITING_BYTES if weight <= SMALL_WRITE else MAX_WAITING_BYTES * 3 // 4
        if weight and self._waiting_bytes + weight > limit:
            raise BusyError("too much waits to be written just now; try again in a moment")
        self._waiting_bytes += weight

    def answered(self, jobs: Sequence[_Waiter], outcomes: Sequence[Outcome[Any]], *, faulty: bool) -> None:
        if faulty:
            # What failed may be written or not, and recovery will tell: until then nothing is known.
            self._cache.drop()
        for waiter, outcome in zip(jobs, outcomes, strict=True):
            self._waiting_bytes -= _waiting_bytes(waiter.command)
            if isinstance(outcome, Value):
                recent = waiter.epoch == self._cache.epoch
                commands.settle(self._cache, waiter.command, outcome.value, recent=recent)
            if waiter.task is not None:
                trio.lowlevel.reschedule(waiter.task, outcome)
                waiter.task = None

    def stopped(self) -> None:
        self.closed.set()


def _waiting_bytes(command: commands.AnyCommand) -> int:
    return command.weight + WAITING_COST if command.kind is commands.Kind.WRITE else 0
