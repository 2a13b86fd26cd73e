"""What a test may leave behind: nothing. Takes stock of the process before a test and compares after it.

- Counted: file descriptors, threads (Python's and others), child processes, locked memory (``mlock`` and
  ``memfd_secret`` mappings both), and the tasks of trio.
- Stock is taken from the kernel, so that what a library opens behind Python's back counts too.
- A difference is looked at again after a garbage collection and a short grace, since threads and processes
  take a moment to be gone; a test without one pays nothing for that.
- It does not close, stop or free what it finds; it only reaps orphans that ended by themselves
  (``adopt_orphans``).
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Stock", "adopt_orphans", "left_behind", "run_without_leftover_tasks"]

T = TypeVar("T")

GRACE_SECONDS: Final = 20.0
"""How long a thread or process that was told to end may take, on a machine that is busy with other things.
Only a test that did leave something waits for so long."""

BENIGN_DESCRIPTORS: Final = frozenset({"/dev/urandom", "/dev/random"})
"""Opened at first use and kept for the life of the process, by whoever wants randomness."""

IDLE_TRIO_THREAD: Final = re.compile(r"Trio thread \d+")
"""The name of a worker in trio's cache that has no job; with a job, it has the job's name."""

STEPS_TO_END: Final = 10
"""Turns that a system task which was told to end may take; not a time, as a test's clock may stand still."""

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What the process holds at one moment.

    Attributes:
        descriptors: what each open descriptor refers to, by its number.
        threads: the kernel's ids of the threads that have something to do.
        idle: those of the threads of trio's cache that have nothing to do.
        children: the ids of child processes, ended ones that nobody waited for among them.
        locked: locked memory, in KiB.
        trio_running: whether this thread is inside a run of trio.
    """

    descriptors: dict[int, str]
    threads: frozenset[int]
    idle: frozenset[int]
    children: frozenset[int]
    locked: int
    trio_running: bool

    @classmethod
    def now(cls) -> Stock:
        """Takes stock."""
        idle = _idle_threads()
        return cls(
            descriptors=_descriptors(),
            threads=frozenset(int(name) for name in os.listdir("/proc/self/task")) - idle,
            idle=idle,
            children=_children(),
            locked=_locked(),
            trio_running=trio.lowlevel.in_trio_run(),
        )


def left_behind(before: Stock, *, grace: float | None = None) -> list[str]:
    """Says, a line each, what is there that was not there before and does not go in ``grace`` seconds, or in
    ``GRACE_SECONDS``.
    """
    left = _compare(before, Stock.now())
    if left:
        gc.collect()
        # Popen stands behind subprocess, trio and asyncio alike.
        waited_for = {thing.pid for thing in gc.get_objects() if isinstance(thing, subprocess.Popen)}
        deadline = time.monotonic() + (GRACE_SECONDS if grace is None else grace)
        while True:
            _reap_orphans(_children() - before.children - waited_for)
            left = _compare(before, Stock.now())
            if not left or time.monotonic() > deadline:
                break
            time.sleep(0.01)  # waiting for the kernel, outside every event loop
    return left


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends, so that they are seen.

    A daemon that a test's program left running would else belong to init. Adopted ones that end by themselves
    are reaped in silence: nobody but init would have waited for them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run_without_leftover_tasks(
    async_fn: Callable[..., Awaitable[T]],
    *args: Any,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """Runs like ``trio.run``, and fails when a system task outlives the main one.

    Nurseries wait for every other task. A system task is the one kind that can be left; trio cancels it in
    silence.
    """

    async def main() -> T:
        before = _system_tasks()
        result = await async_fn(*args)
        for _ in range(STEPS_TO_END):
            if _system_tasks() <= before:
                return result
            await trio.lowlevel.checkpoint()
        names = sorted(task.name for task in _system_tasks() - before)
        raise AssertionError("left behind: " + ", ".join(f"trio task {name}" for name in names))

    return trio.run(main, clock=clock, instruments=instruments)


def _system_tasks() -> set[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return {task for nursery in root.child_nurseries for task in nursery.child_tasks}


def _compare(before: Stock, after: Stock) -> list[str]:
    return [
        *(
            f"descriptor {number}: {target}"
            for number, target in after.descriptors.items()
            if before.descriptors.get(number) != target and target not in BENIGN_DESCRIPTORS
        ),
        *(f"thread {_thread_name(thread)}" for thread in _new_threads(before, after)),
        *(f"process {child}: {_process_name(child)}" for child in sorted(after.children - before.children)),
        *([f"locked memory: {after.locked - before.locked} KiB"] if after.locked > before.locked else []),
        *(["a run of trio that goes on"] if after.trio_running and not before.trio_running else []),
    ]


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # not pathlib: this runs twice a test
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _idle_threads() -> frozenset[int]:
    found = (t.native_id for t in threading.enumerate() if IDLE_TRIO_THREAD.fullmatch(t.name))
    return frozenset(thread for thread in found if thread is not None)


def _new_threads(before: Stock, after: Stock) -> list[int]:
    """But for those that were idle and are ending now: Python knows them no more, and the kernel does."""
    ending = before.idle - {thread.native_id for thread in threading.enumerate()}
    return sorted(after.threads - before.threads - ending)


def _thread_name(native_id: int) -> str:
    for thread in threading.enumerate():
        if thread.native_id == native_id:
            return thread.name
    return f"{native_id}, not one of Python's"


def _children() -> frozenset[int]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # the usual case, for a microsecond
        return frozenset()
    children: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            children.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text("ascii").split()))
    return frozenset(children)


def _process_name(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return command.strip() or "ended, but never waited for"
    return "gone"


def _reap_orphans(children: frozenset[int]) -> None:
    for child in children:
        with suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def _locked() -> int:
    status = Path("/proc/self/status").read_bytes()
    start = status.index(b"VmLck:") + len(b"VmLck:")
    return int(status[start : status.index(b"kB", start)])
