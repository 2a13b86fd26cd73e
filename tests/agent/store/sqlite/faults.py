"""Places faults at single system calls of a store at work, with strace (package ``strace``)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Step = tuple[str, ...]


@dataclass
class Run:
    """What became of a job.

    Attributes:
        steps: each step's error as text, "None" where it succeeded.
        faulty: for each step, whether the store was unusable after it.
        injected: whether the fault was met at all.
        calls: how often the call in question was made, closing the store included.
        status: the child's wait status; 9 if it was killed.
    """

    steps: list[str] = field(default_factory=list)
    faulty: list[bool] = field(default_factory=list)
    injected: bool = False
    calls: int = 0
    status: int = 0


class FaultyProcess:
    """A process that does jobs on stores; one job at a time, each with a fault of its own."""

    def __init__(self, scratch: Path) -> None:
        self._go = scratch / "go"
        self._trace = scratch / "trace"
        os.mkfifo(self._go)
        self._gate = os.open(self._go, os.O_RDWR)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("faults_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A test that failed half way leaves a child that waits.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=30)
        os.close(self._gate)

    def run(self, directory: Path, steps: Sequence[Step], inject: str, before: Sequence[Step] = ()) -> Run:
        """Do ``steps`` on the store in ``directory``, with the fault ``inject`` (strace's syntax).

        A step ``("wait",)`` ends the fault. The steps ``before`` are taken without it.
        """
        self._say({"directory": str(directory), "go": str(self._go), "before": before, "steps": steps})
        child = self._hear()["ready"]
        run = Run()
        with ExitStack() as stack:
            strace = self._attach(child, inject)
            stack.callback(strace.wait)
            os.write(self._gate, b"x")
            while "status" not in (line := self._hear()):
                if "waiting" in line:
                    strace.terminate()  # which detaches
                    strace.wait()
                    os.write(self._gate, b"x")
                    continue
                run.steps.append(line["error"])
                run.faulty.append(line["faulty"])
            run.status = line["status"]
        trace = self._trace.read_text()
        run.injected = "(INJECTED)" in trace or run.status != 0
        run.calls = trace.count(inject.partition(":")[0] + "(")
        return run

    def _attach(self, child: int, inject: str) -> subprocess.Popen[str]:
        name = inject.partition(":")[0]
        strace = subprocess.Popen(
            ["strace", "-p", str(child), "-o", self._trace, "-e", f"trace={name}", "-e", f"inject={inject}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert strace.stderr is not None
        with strace.stderr:
            said = strace.stderr.readline()
        assert "attached" in said, said
        return strace

    def _say(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process died"
        heard: dict[str, Any] = json.loads(line)
        return heard


def everywhere(
    process: FaultyProcess,
    stores: Iterator[Path],
    steps: Sequence[Step],
    fault: str,
    before: Sequence[Step] = (),
) -> Iterator[tuple[Path, Run]]:
    """The steps once for every place that ``fault`` (such as ``fsync:error=EIO``) can strike, in turn."""
    for index in count(1):
        directory = next(stores)
        run = process.run(directory, steps, f"{fault}:when={index}", before)
        if not run.injected:
            return
        yield directory, run
