"""Registers and dead stack, filled from outside with something that can be told from all else.

What is planted is in every vector register and in every byte of dead stack that operations reach. So nothing
is left to luck: neither to the processor, nor to what an operation happened to leave, nor to where the stack
begins.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from keyholt_agent.memory import residue
from tests.support import registers
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.memory_scan import scan_process, scan_registers, scannable
from tests.support.residue import REACH, plant

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBJECT: Final = Path(__file__).with_name("residue_subject.py")


@dataclass
class Subject:
    """The process, and what is planted in it."""

    process: subprocess.Popen[bytes]
    path: CodePath
    planted: bytes
    thread: int = 0

    def step(self, name: str) -> None:
        """Wait until it has come to a step."""
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        assert said["step"] == name
        self.thread = said["thread"]
        registers.wait_blocked(self.thread)

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"x")
        self.process.stdin.flush()

    def plant(self) -> None:
        """In every vector register of the thread that spoke last, and all over its dead stack."""
        filled = plant(self.process.pid, self.thread, self.planted, self.path)
        assert self.left_in_registers() == filled
        assert scan_registers(self.process.pid, [self.planted]).total >= 16
        assert self.left_in_memory() >= REACH // len(self.planted)

    def left_in_registers(self, thread: int | None = None) -> set[int]:
        """The vector registers of a thread, by number, that still hold some of it."""
        tid = self.thread if thread is None else thread
        with registers.stopped(tid):
            return registers.holding(registers.read_vector(tid), self.planted)

    def left_in_memory(self) -> int:
        """Places in the memory of the process that still hold some of it."""
        return scan_process(self.process.pid, [self.planted]).total


@contextmanager
def subject(path: CodePath, kind: str) -> Iterator[Subject]:
    """The process, on a code path, with clearing or nothing of it."""
    with subprocess.Popen(
        scannable([sys.executable, str(SUBJECT), kind]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path), **path.variables},
    ) as process:
        yield Subject(process, path, os.urandom(16))
        process.kill()


@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_nothing_planted_is_left(path: CodePath) -> None:
    """Not in a thread that is started, nor in one that has done its work, nor where the loop waits or is
    busy.
    """
    with subject(path, "clearing") as one:
        one.step("task, before a thread starts")
        one.plant()
        one.go_on()
        one.step("thread begun")
        assert one.left_in_registers() == set()
        one.go_on()
        one.step("thread at work")
        one.plant()
        worker = one.thread
        one.go_on()
        one.step("thread done")
        registers.wait_blocked(worker, for_thread=True)
        assert one.left_in_registers(worker) == set()
        assert one.left_in_memory() == 0
        for planted, waiting in (("task", "loop waits"), ("busy task", "loop was busy")):
            one.go_on()
            one.step(planted)
            one.plant()
            one.go_on()
            one.step(waiting)
            assert one.left_in_registers() == set()
            assert one.left_in_memory() == 0


def test_without_clearing_it_is_left() -> None:
    """The same process without: a thread starts with it, keeps it, and the loop waits and works with it."""
    with subject(CODE_PATHS[0], "nothing") as one:
        one.step("task, before a thread starts")
        one.plant()
        one.go_on()
        one.step("thread begun")
        assert one.left_in_registers()
        one.go_on()
        one.step("thread at work")
        one.plant()
        worker = one.thread
        one.go_on()
        one.step("thread done")
        registers.wait_blocked(worker, for_thread=True)
        assert one.left_in_registers(worker)
        assert one.left_in_memory() > 1000
        for planted, waiting in (("task", "loop waits"), ("busy task", "loop was busy")):
            one.go_on()
            one.step(planted)
            one.plant()
            one.go_on()
            one.step(waiting)
            assert one.left_in_registers()
            assert one.left_in_memory() > 1000


def test_no_thread_is_started_another_way() -> None:
    """But for the store's, which is started before any key is in memory."""
    package = Path(residue.__file__).parents[1]
    ways = (
        "to_thread.run_sync(", "start_thread_soon(", "start_new_thread(", "threading.Thread(",
        "import Thread", "Executor(",
    )  # fmt: skip
    found = {
        (str(path.relative_to(package)), way)
        for path in package.rglob("*.py")
        for way in ways
        if way in path.read_text(encoding="utf-8")
    }
    assert found == {("memory/residue.py", "start_thread_soon("), ("store/thread.py", "threading.Thread(")}


async def test_thread_gives_what_its_function_does() -> None:
    """What it returns, or what it raises."""
    assert await residue.run_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await residue.run_in_thread(divmod, 7, 0)


async def test_thread_is_waited_for_by_who_is_cancelled() -> None:
    """The buffers that its function works with are the caller's, not to be given back before its end."""
    begun, may_end = Event(), Event()
    ended: list[bool] = []

    def work() -> None:
        begun.set()
        ended.append(may_end.wait(60))

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(residue.run_in_thread, work)
            while not begun.is_set():
                await trio.lowlevel.checkpoint()
            scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            may_end.set()
    assert ended == [True]


def test_lack_of_memory_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio drops an instrument that raises. This one does not, and clears in the next turn, busy or not."""
    outcomes: list[BaseException | None] = [MemoryError(), None]

    def clear() -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    monkeypatch.setattr(residue, "clear_residue", clear)
    clearing = residue.ResidueClearing()
    clearing.before_io_wait(1.0)
    clearing.before_io_wait(0.0)
    assert outcomes == []
    clearing.before_io_wait(0.0)


def test_agent_that_cannot_clear_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other failure ends the agent, as SIGTERM would."""

    def clear() -> None:
        raise ValueError

    monkeypatch.setattr(residue, "clear_residue", clear)
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        residue.ResidueClearing().before_io_wait(1.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]
