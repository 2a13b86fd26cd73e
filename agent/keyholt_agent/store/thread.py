"""The store's thread: takes what is queued, has the back end run it, and hands the answers to trio.

- One thread for the life of the store. A call through trio's own worker threads costs 190 us; this costs
  a queue and one wake-up of trio for a whole batch.
- Group commit: what is queued while a commit is under way becomes the next one.
- Answers are delivered in the order in which batches were run; reads of a batch come before its writes.
  The commands of a batch are all under way at once, so any order among them is a correct one.
- When it waits, nothing of a key is left in its registers or on its stack (``memory.residue``).
- Nothing queued is lost: ``stop`` lets the thread finish what was submitted before it.
- A defect is contained where a command or the housekeeping meets it. Elsewhere it ends the thread, and then
  the agent (``stand_by``), for nobody would be answered any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import trio
from outcome import Error, Outcome

from keyholt_agent.memory.residue import clear_residue
from keyholt_agent.store.commands import AnyCommand, Kind
from keyholt_protocol.errors import InternalError

__all__ = ["Backend", "StoreThread", "Waiter"]

MAX_BATCH: Final = 256
"""Commands of one transaction: more would only make the first of them wait for the last."""

GATHERING: Final = 0.002
"""Seconds without a further command after which a batch is closed although more writers were there for
the last: a commit costs the thread about 0.9 ms, so one for 64 is worth a wait (a third more, measured)."""

MAX_BATCH_BYTES: Final = 32 * 1024 * 1024
"""Bytes of values in one transaction; it is what SQLite holds of it in memory, and the log on disk."""

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """What keeps the store; the store's thread alone calls its methods.

    Attributes:
        initialised: whether there is a store; asked from any thread.
        faulty: whether the store failed and has not recovered: nothing known of it is to be relied on.
    """

    @property
    def initialised(self) -> bool: ...

    @property
    def faulty(self) -> bool: ...

    def start(self) -> None:
        """Claim the store's place, and open the store if there is one; a ``KeyholtError`` says why not."""
        ...

    def stop(self) -> None:
        """Close the store, and give its place up."""
        ...

    def run(self, commands: Sequence[AnyCommand]) -> list[Outcome[Any]]:
        """Run commands of one kind together, and answer each, in their order; a failure is an answer too.

        What is answered well is durable, and erased where its command erases.
        """
        ...

    def maintain(self) -> None:
        """Do what needs no caller; called after every batch."""
        ...


class Waiter:
    """A command on its way and the task that waits for its answer; None once it has stopped waiting.

    Attributes:
        epoch: of who keeps latest versions, when the command was asked for.
    """

    __slots__ = ("command", "epoch", "task")

    def __init__(self, command: AnyCommand, epoch: int) -> None:
        self.command = command
        self.epoch = epoch
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def abandon(self, _: object) -> trio.lowlevel.Abort:
        """Wait no longer; called by trio when the task is cancelled."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


Deliver = Callable[[Sequence[Waiter], Sequence[Outcome[Any]], bool], None]
"""Takes the answers to commands, in trio's thread; true if the store is faulty after them."""


class StoreThread:
    """Owns a back end, which no other thread touches.

    Args:
        backend: not yet started.
        deliver: called in trio's thread, once for each run of commands.
    """

    def __init__(self, backend: Backend, deliver: Deliver) -> None:
        self._backend = backend
        self._deliver = deliver
        self._token = trio.lowlevel.current_trio_token()
        self._queue: SimpleQueue[Waiter | None] = SimpleQueue()
        self._started = trio.Event()
        self._refusal: Exception | None = None
        self._defect: Exception | None = None
        self._ended = trio.Event()
        self._stopping = False
        self._crowd = 1  # a writer alone never waits for others
        self._thread = threading.Thread(target=self._run, name="keyholt-store", daemon=True)

    async def start(self) -> None:
        """Start the thread, and wait until the back end has started.

        Raises:
            KeyholtError: it refused; the thread has ended.
        """
        # Shielded, as its end is: the thread holds the lock and the files until it has reported.
        with trio.CancelScope(shield=True):
            self._thread.start()
            await self._started.wait()
            if self._refusal is not None:
                await self._join()
                raise self._refusal

    def submit(self, waiter: Waiter) -> None:
        """Queue a command; its answer is delivered unless trio has ended by then."""
        self._queue.put(waiter)

    async def stand_by(self) -> None:
        """Wait until the thread has ended; raises the defect that ended it, if it was not told to."""
        await self._ended.wait()
        self._raise_defect()

    async def stop(self) -> None:
        """Have the thread finish what is queued, however much of a hurry there is, and close the store.

        Raises:
            Exception: a defect has ended the thread, or kept it from closing the store; told once.
        """
        with trio.CancelScope(shield=True):
            self._queue.put(None)
            await self._join()
        self._raise_defect()

    def _raise_defect(self) -> None:
        defect, self._defect = self._defect, None
        if defect is not None:
            raise defect

    async def _join(self) -> None:
        await self._ended.wait()
        self._thread.join()  # only brief: it has nothing left to do

    def _run(self) -> None:
        try:
            self._backend.start()
        except Exception as refusal:
            self._refusal = refusal
        self._post(self._started.set)
        if self._refusal is None:
            try:
                self._work()
            except Exception as defect:
                self._defect = defect
        self._post(self._ended.set)

    def _work(self) -> None:
        """Serve until told to stop; the store is closed in any case."""
        try:
            while not self._stopping:
                batch = self._take()
                # Through a call of C, which puts its frames below those of the clearing.
                copy_context().run(self._serve, batch)
                clear_residue()
        finally:
            self._backend.stop()

    def _take(self) -> list[Waiter]:
        """Wait for a command, and take what else is queued, up to the bounds of a batch."""
        batch: list[Waiter] = []
        weight = 0
        waiter = self._queue.get()
        while waiter is not None:
            batch.append(waiter)
            weight += waiter.command.weight
            if len(batch) >= MAX_BATCH or weight >= MAX_BATCH_BYTES:
                return batch
            try:
                # While fewer writers came than last time, a further one is waited for, briefly.
                if len(batch) < self._crowd:
                    waiter = self._queue.get(timeout=GATHERING)
                else:
                    waiter = self._queue.get_nowait()
            except Empty:
                return batch
        self._stopping = True
        return batch

    def _serve(self, batch: Sequence[Waiter]) -> None:
        for kind in Kind:
            of_kind = [waiter for waiter in batch if waiter.command.kind is kind]
            if kind is Kind.READ:
                # Nothing becomes of a read that nobody waits for: who asks and leaves must not make work.
                of_kind = [waiter for waiter in of_kind if waiter.task is not None]
            if of_kind:
                self._answer(of_kind)
                # Whoever wrote now, or waits already, is likely to be there for the next commit too.
                self._crowd = len(of_kind) + self._queue.qsize() if kind is Kind.WRITE else 1
        try:
            self._backend.maintain()
        except Exception as error:  # the thread must outlive it: everybody waits for its answers
            _log.error("the store's thread met a defect", exc_info=error)

    def _answer(self, waiters: Sequence[Waiter]) -> None:
        try:
            outcomes = self._backend.run([waiter.command for waiter in waiters])
        except Exception as error:
            # A defect of the back end itself: its callers must not wait for ever.
            _log.error("the store's thread met a defect", exc_info=error)
            outcomes = [Error(InternalError()) for _ in waiters]
        faulty = self._backend.faulty
        self._post(lambda: self._deliver(waiters, outcomes, faulty))

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(call)
        except trio.RunFinishedError:
            # Nobody is left to be told; what was asked for is done all the same.
            _log.warning("trio ended before the store's thread did")
