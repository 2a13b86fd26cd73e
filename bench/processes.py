"""The processes of a benchmark: started, waited for, measured from outside, and stopped whatever happens.

- Each is owned by a ``with``; leaving it stops the process, politely and then not.
- What a process says on stderr is kept, and shown only when it fails.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench.jobs import Job, Measured

__all__ = [
    "BenchError",
    "EchoProcess",
    "IdleProcess",
    "Memory",
    "ServerProcess",
    "program",
    "run_load",
    "spawn",
]

ROOT: Final = Path(__file__).parent.parent
PATIENCE: Final = 30.0
"""Seconds for a process to answer after its start, and to end after it was told to."""

LONGEST_JOB: Final = 1800.0
"""Seconds for a job that is not measured by time."""

POLL: Final = 0.0005
"""Seconds between attempts to connect to a process that starts: the error of a measured start."""


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident bytes of a process; ``pss`` counts shared pages by their share, None where it is not told."""

    rss: int
    pss: int | None


class ServerProcess:
    """A server with a Unix socket, stopped when the ``with`` is left."""

    def __init__(self, command: Sequence[str], address: Path, log: Path) -> None:
        self.socket = str(address)
        self._log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def processor_time(self) -> float:
        """Seconds of processor time that all its threads have taken so far (proc_pid_stat(5))."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> Memory:
        """What it holds resident now."""
        try:
            rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text("ascii")
        except PermissionError:
            # The agent is not dumpable: only root sees more than the sum.
            return Memory(rss=_kib(Path(f"/proc/{self.pid}/status").read_text("utf-8"), "VmRSS"), pss=None)
        return Memory(rss=_kib(rollup, "Rss"), pss=_kib(rollup, "Pss"))

    def stop(self) -> None:
        """Have it end, and wait until it has; again is harmless."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not _accepts(self.socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text("utf-8", errors="replace").strip()
                raise BenchError(f"a server does not start; it said: {said[-500:] or 'nothing'}")
            time.sleep(POLL)


class EchoProcess(ServerProcess):
    """The echo server; ``core`` to run on, None for any."""

    def __init__(self, directory: Path, core: int | None) -> None:
        address = directory / "echo.sock"
        address.unlink(missing_ok=True)
        pinned = [] if core is None else [str(core)]
        super().__init__(
            [sys.executable, "-m", "bench.echo", str(address), *pinned], address, directory / "echo.log"
        )


class IdleProcess:
    """Holds greeted connections to an agent's socket open, and asks nothing."""

    def __init__(self, address: str, connections: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.idlers", address, str(connections)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        said = self._process.stdout and self._process.stdout.readline()
        if not said:
            raise BenchError(f"idle connections cannot be had: {self._process.communicate()[1][-500:]}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def program(name: str) -> str:
    """The path of a program of the installed project.

    Raises:
        BenchError: it is not installed beside this interpreter.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise BenchError(f"{name} is not installed beside this interpreter; run `make bench`")
    return str(path)


def spawn(words: list[str], environment: dict[str, str], output: str = os.devnull) -> float:
    """Run a process to its end; seconds, spawned by the bare system call, which costs little.

    Raises:
        BenchError: it failed.
    """
    files = [(os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    begun = time.perf_counter()
    pid = os.posix_spawn(words[0], words, environment, file_actions=files)
    _, status = os.waitpid(pid, 0)
    taken = time.perf_counter() - begun
    if status != 0:
        raise BenchError(f"`{' '.join([os.path.basename(words[0]), *words[1:2]])}` failed")
    return taken


def run_load(job: Job) -> Measured:
    """Have a load generator do a job.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=json.dumps(dataclasses.asdict(job)).encode(),
            capture_output=True,
            cwd=ROOT,
            check=False,
            timeout=LONGEST_JOB,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"a load of kind {job.kind} does not end") from None
    if done.returncode != 0:
        raise BenchError(done.stderr.decode(errors="replace").strip() or "the load generator was killed")
    return Measured(**json.loads(done.stdout))


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
        return True


def _kib(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise BenchError(f"the kernel does not tell {name} of a process")
    return int(found[1]) * 1024
