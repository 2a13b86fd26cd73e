"""The store's thread: takes what is queued, runs it as one transaction, and hands the answers to trio.

- One thread for the life of the store. A call through trio's own worker threads costs 190 us; this costs
  a queue and one wake-up of trio for a whole batch.
- Group commit: what is queued while a commit is under way becomes the next one.
- Answers are delivered in the order in which batches were run; reads of a batch come before its writes.
  The commands of a batch are all under way at once, so any order among them is a correct one.
- Nothing queued is lost: ``stop`` lets the thread finish what was submitted before it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

import trio
from outcome import Error, Outcome

from keyholt_agent.store.commands import AnyCommand, Kind
from keyholt_agent.store.core import StoreCore
from keyholt_protocol.errors import InternalError

__all__ = ["Delivery", "Job", "StoreThread"]

MAX_BATCH: Final = 256
"""Commands of one transaction: more would only make the first of them wait for the last."""

GATHERING: Final = 0.002
"""Seconds without a further command after which a batch is closed although more writers were there for
the last: a commit costs the thread about 0.9 ms, so one for 64 is worth a wait (a third more, measured)."""

MAX_BATCH_BYTES: Final = 32 * 1024 * 1024
"""Bytes of values in one transaction; it is what SQLite holds of it in memory, and the log on disk."""

_log = logging.getLogger(__name__)


class Job(Protocol):
    """A command on its way; everything else about it is its owner's. ``wanted``: somebody waits for it."""

    command: AnyCommand

    @property
    def wanted(self) -> bool: ...


JobT = TypeVar("JobT", bound=Job)
JobT_contra = TypeVar("JobT_contra", bound=Job, contravariant=True)


class Delivery(Protocol[JobT_contra]):
    """What the thread calls in trio's thread, once for each run of commands."""

    def started(self, refusal: Exception | None) -> None:
        """The directory was claimed and its store opened; or refused, and the thread is done."""

    def answered(
        self, jobs: Sequence[JobT_contra], outcomes: Sequence[Outcome[Any]], *, faulty: bool
    ) -> None:
        """Commands were run; ``faulty``: the store failed, nothing known of it is to be relied on."""

    def stopped(self) -> None:
        """The store is closed; nothing more is delivered."""


class StoreThread(Generic[JobT]):
    """Owns a ``StoreCore``, which no other thread touches."""

    def __init__(self, core: StoreCore, token: trio.lowlevel.TrioToken, delivery: Delivery[JobT]) -> None:
        self._core = core
        self._token = token
        self._delivery = delivery
        self._queue: SimpleQueue[JobT | None] = SimpleQueue()
        self._stopping = False
        self._crowd = 1  # a writer alone never waits for others
        self._thread = threading.Thread(target=self._run, name="keyholt-store", daemon=True)

    def start(self) -> None:
        """Start the thread, which opens the store and reports ``started``."""
        self._thread.start()

    def submit(self, job: JobT) -> None:
        """Queue a command; its answer is delivered unless trio has ended by then."""
        self._queue.put(job)

    def stop(self) -> None:
        """Ask the thread to finish what is queued, close the store and report ``stopped``."""
        self._queue.put(None)

    def join(self) -> None:
        """Wait for the thread's end; only brief once ``stopped`` was reported."""
        self._thread.join()

    def _run(self) -> None:
        refusal = self._open()
        self._post(lambda: self._delivery.started(refusal))
        if refusal is None:
            while not self._stopping:
                self._serve(self._take())
            self._core.stop()
        self._post(self._delivery.stopped)

    def _open(self) -> Exception | None:
        try:
            self._core.start()
        except Exception as refusal:
            return refusal
        return None

    def _take(self) -> list[JobT]:
        """Wait for a command, and take what else is queued, up to the bounds of a batch."""
        batch: list[JobT] = []
        weight = 0
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            weight += job.command.weight
            if len(batch) >= MAX_BATCH or weight >= MAX_BATCH_BYTES:
                return batch
            try:
                job = self._next(len(batch))
            except Empty:
                return batch
        self._stopping = True
        return batch

    def _next(self, taken: int) -> JobT | None:
        """A further command of a batch; waited for, briefly, while fewer writers came than last time."""
        if taken < self._crowd:
            return self._queue.get(timeout=GATHERING)
        return self._queue.get_nowait()

    def _serve(self, batch: Sequence[JobT]) -> None:
        for kind in Kind:
            # Nothing becomes of a read that nobody waits for: who asks and leaves must not make work.
            if jobs := [
                job for job in batch if job.command.kind is kind and (job.wanted or kind is not Kind.READ)
            ]:
                if kind is Kind.READ:
                    # Reads of one class are answered by one query, wherever they were queued.
                    jobs.sort(key=lambda job: type(job.command).__name__)
                self._answer(jobs)
                # Whoever wrote now, or waits already, is likely to be there for the next commit too.
                self._crowd = len(jobs) + self._queue.qsize() if kind is Kind.WRITE else 1
        self._maintain()

    def _maintain(self) -> None:
        try:
            self._core.maintain()
        except Exception as error:  # the thread must outlive it: everybody waits for its answers
            _log.error("the store's thread met a defect", exc_info=error)

    def _answer(self, jobs: Sequence[JobT]) -> None:
        try:
            outcomes = self._core.run([job.command for job in jobs])
        except Exception as error:
            # A defect of the core itself: its callers must not wait for ever.
            _log.error("the store's thread met a defect", exc_info=error)
            outcomes = [Error(InternalError()) for _ in jobs]
        faulty = self._core.faulty
        self._post(lambda: self._delivery.answered(jobs, outcomes, faulty=faulty))

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(call)
        except trio.RunFinishedError:
            # Nobody is left to be told; what was asked for is done all the same.
            _log.warning("trio ended before the store's thread did")
