"""The store as the agent's tasks see it: commands to ask it.

- What changes something is answered only after the change is durable.
- A caller that is cancelled stops waiting; a write is run all the same, whole or not at all.
- Who keeps latest versions in memory is told where answers are delivered, in the store's order: trio wakes
  tasks in an order of its own, so a task that filled a cache could put an old version over a newer one.
- It knows no key and no plaintext, and decides nothing about who may do what.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import trio
from outcome import Error, Outcome, Value

from keyholt_agent.defects import log_defect
from keyholt_agent.sealed_state import CheckProgress, StateKeeper
from keyholt_agent.store.commands import (
    AnyCommand,
    Command,
    CountSecrets,
    Kind,
    ReadSecret,
    SecretCommand,
)
from keyholt_agent.store.errors import ErasureOwedError
from keyholt_agent.store.key_commands import AddUp, PutInForce
from keyholt_agent.store.latest import NOBODY, LatestVersions, settle
from keyholt_agent.store.rows import SecretVersion, StoreStatistics
from keyholt_agent.store.sqlite import SqliteBackend
from keyholt_agent.store.thread import Backend, StoreThread, Waiter
from keyholt_protocol.errors import BusyError, IntegrityError, KeyholtError, StoreUnavailableError
from keyholt_protocol.limits import MAX_VALUE

__all__ = ["Store", "open_store"]

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of writes that wait for the store's thread; a caller that left does not take its own back."""

SMALL_WRITE: Final = 64 * 1024
"""Bytes up to which a write may take the last quarter of those: large ones of others do not keep it out."""

WAITING_COST: Final = 2 * 1024
"""Bytes that a waiting write takes beside its value; without them endlessly many empty ones could wait."""

READS_AT_ONCE: Final = 128
"""Small values that are read at once, 64 MiB at most; further readers wait for their turn."""

LARGEST_SEALED: Final = MAX_VALUE + 64 * 1024
"""Bytes of the largest sealed value: a value, and what sealing adds, which is far less."""

ROWS_AT_ONCE: Final = 2048
"""Rows that are added up in one go: about 10 ms, for which others wait."""

T = TypeVar("T")


@asynccontextmanager
async def open_store(directory: Path, latest: LatestVersions = NOBODY) -> AsyncGenerator[Store, None]:
    """Claim ``directory`` and open its store; both are given up when the block ends, after what is queued.

    Without a store in it, commands raise ``UninitialisedError`` until ``CreateStore``.

    Args:
        latest: is told of the latest versions of secrets, as they are read and written.

    Raises:
        StoreBusyError: another agent has the directory.
        StoreNewerError, StoreForeignError, StoreDamagedError: the store is refused; the message says why.
        StoreUnavailableError: the directory or the file cannot be used.
    """
    store = Store(SqliteBackend(directory), latest)
    async with store.running():
        yield store


class Store:
    """An open store; made by ``open_store``."""

    def __init__(self, backend: Backend, latest: LatestVersions) -> None:
        self._backend = backend
        self._latest = latest
        self._thread = StoreThread(backend, self._answered)
        self._closed = False
        self._waiting_bytes = 0
        self._reading_small = trio.Semaphore(READS_AT_ONCE)
        self._reading_large = trio.Lock()
        self._reading_pages = trio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Start the store's thread; at the end take nothing more, and have it finish what is queued."""
        await self._thread.start()
        try:
            yield
        finally:
            self._closed = True
            await self._thread.stop()

    @property
    def initialised(self) -> bool:
        """Whether there is a store; False until ``CreateStore`` where there was none."""
        return self._backend.initialised

    async def ask(self, command: Command[T]) -> T:
        """What the store answers to a command; see there for what it raises.

        Raises:
            BusyError: too much waits to be written; somebody asks faster than the disk takes it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StoreUnavailableError("the agent is shutting down")
        if weight := _waiting_bytes(command):
            limit = MAX_WAITING_BYTES if weight <= SMALL_WRITE else MAX_WAITING_BYTES * 3 // 4
            if self._waiting_bytes + weight > limit:
                raise BusyError("too much waits to be written just now; try again in a moment")
            # Counted until it is answered, whether or not its caller still waits.
            self._waiting_bytes += weight
        waiter = Waiter(command, self._latest.epoch)
        self._thread.submit(waiter)
        answer: T = await trio.lowlevel.wait_task_rescheduled(waiter.abandon)
        return answer

    async def stand_by(self) -> None:
        """Wait for ever, unless the store's thread ends before it was told to: then nothing is answered.

        Raises:
            Exception: the defect that ended it.
        """
        await self._thread.stand_by()

    async def settle(self) -> None:
        """Wait until what was asked before has been answered."""
        with suppress(KeyholtError):  # a store that failed has answered all the same
            await self.ask(CountSecrets())

    async def read_secret(self, path: str, version: int | None) -> SecretVersion:
        """One version of a live secret, None for the latest, which ``latest`` is then told of.

        Raises:
            NotFoundError: never written, deleted, or no such version; the message says which.
        """
        try:
            self._reading_small.acquire_nowait()
        except trio.WouldBlock:
            await self._reading_small.acquire()
        try:
            found = await self.ask(ReadSecret(path=path, version=version))
        finally:
            self._reading_small.release()
        if found is None:
            async with self._reading_large:  # one at a time, or the readers' number would bound the memory
                found = await self.ask(ReadSecret(path=path, version=version, most=LARGEST_SEALED))
        if found is None:
            raise IntegrityError(
                f"the value of {path!r} is larger than any that the agent writes: restore a backup"
            )
        return found

    async def read_page(self, command: Command[T]) -> T:
        """What ``ask`` gives, for a command that reads many rows: one at a time.

        Between two the store's thread waits for the loop, which so gets the core that they may share. Were
        there always a next one, the loop would get it when the kernel's tick comes: every 4 ms, as measured.
        """
        async with self._reading_pages:
            return await self.ask(command)

    async def unseal(
        self, keeper: StateKeeper, report: Callable[[CheckProgress], None] | None = None
    ) -> None:
        """Add all rows up, and seal with these keys from now on if they come to what was sealed.

        Until then the store takes no writes, so nothing changes while it is read.

        Args:
            report: is told how far it is, from time to time.

        Raises:
            IntegrityError: rows were changed, set back, removed or added by something else than the agent.
        """
        counts = await self.ask(CountSecrets())
        total = done = 0
        following: tuple[int, int] | None = None
        while True:
            part = await self.ask(AddUp(keeper=keeper, after=following, most=ROWS_AT_ONCE))
            total, done, following = total + part.total, done + part.rows, part.after
            if following is None:
                break
            if report is not None:
                report(CheckProgress(done, max(done, counts.paths + counts.versions)))
        await self.ask(PutInForce(keeper=keeper, total=total))

    async def statistics(self) -> StoreStatistics:
        """Counts and sizes; takes no longer for a large store."""
        counts = await self.ask(CountSecrets())
        return StoreStatistics(
            secrets=counts.paths - counts.deleted,
            deleted=counts.deleted,
            versions=counts.versions,
            bytes=counts.size,
        )

    def _answered(self, waiters: Sequence[Waiter], outcomes: Sequence[Outcome[Any]], faulty: bool) -> None:
        """Take what the store's thread delivers: who keeps latest versions is told, then the tasks are."""
        if faulty:
            # What failed may be written or not, and recovery will tell: until then nothing is known.
            self._latest.drop()
        for waiter, outcome in zip(waiters, outcomes, strict=True):
            self._waiting_bytes -= _waiting_bytes(waiter.command)
            try:
                self._tell(waiter, outcome)
            except Exception as error:  # a defect of who keeps them: an old version must not stay there
                log_defect(error)
                self._latest.drop()
            if waiter.task is not None:
                trio.lowlevel.reschedule(waiter.task, outcome)
                waiter.task = None

    def _tell(self, waiter: Waiter, outcome: Outcome[Any]) -> None:
        """Tell who keeps latest versions what a command has changed."""
        if isinstance(outcome, Value):
            recent = waiter.epoch == self._latest.epoch
            settle(self._latest, waiter.command, outcome.value, recent=recent)
        elif isinstance(waiter.command, SecretCommand) and _is_owed(outcome):
            self._latest.evict(waiter.command.path)  # it was done all the same


def _waiting_bytes(command: AnyCommand) -> int:
    return command.weight + WAITING_COST if command.kind is Kind.WRITE else 0


def _is_owed(outcome: Outcome[Any]) -> bool:
    return isinstance(outcome, Error) and isinstance(outcome.error, ErasureOwedError)
