"""Faults placed exactly: strace lets the N-th system call of one kind fail, or kill the process at it.

- The agent has to be one that this user may trace though it is not dumpable: see ``traceable``.
- The count begins when strace attaches, by thread; only the store's thread makes these calls.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import poll
from tests.support.memory_scan import scannable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["STORE_CALLS", "Fault", "injected", "traceable"]

STORE_CALLS: Final = ("pwrite64", "fdatasync", "ftruncate")
"""The calls that change a store on the disk; SQLite makes no other (``write`` and ``fsync`` come with a new
store only)."""


def traceable() -> list[str]:
    """What to start an agent with so that this user may trace it."""
    return scannable([])


@dataclass
class Fault:
    """One fault: ``call`` is the kind, ``count`` which of them, ``effect`` what strace calls it.

    Attributes:
        injected: whether it happened; known once the block has ended.
    """

    call: str
    count: int
    effect: str
    injected: bool = False


@contextmanager
def injected(pid: int, fault: Fault, trace: Path) -> Iterator[None]:
    """Place a fault in a running agent, for the time of the block."""
    tracer = subprocess.Popen(
        [
            "strace", "-f", "-p", str(pid), "-o", str(trace), "-e", f"trace={fault.call}",
            "-e", f"inject={fault.call}:{fault.effect}:when={fault.count}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert tracer.stderr is not None
    try:
        poll(lambda: _traced(pid) or tracer.poll() is not None, patience=20)
        if tracer.poll() is not None:
            raise AssertionError(f"strace: {tracer.stderr.read().decode()}")
        yield
    finally:
        _end(tracer, trace)
        tracer.stderr.close()
        said = trace.read_text(errors="replace")
        fault.injected = "(INJECTED)" in said or "(DELAYED)" in said or _killed(trace)


def _end(tracer: subprocess.Popen[bytes], trace: Path) -> None:
    """Let go of the agent, or of what is left of it."""
    if not _killed(trace):
        tracer.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            tracer.wait(5)
            return
    # A tracer may wait for ever for threads that were killed; without one, their parent hears of it.
    tracer.kill()
    tracer.wait()


def _traced(pid: int) -> bool:
    """Whether every thread is under strace."""
    tasks = Path(f"/proc/{pid}/task")
    return all(
        (match := re.search(r"TracerPid:\s+(\d+)", (tasks / name / "status").read_text())) and int(match[1])
        for name in os.listdir(tasks)
    )


def _killed(trace: Path) -> bool:
    """Whether the process ended, or a call of it for ever: strace may have written of the latter alone."""
    return (
        re.search(r"killed by SIGKILL|\) += \?$", trace.read_text(errors="replace"), re.MULTILINE) is not None
    )
