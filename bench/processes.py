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

from bench.load import Job, Measured

import keyholt

__all__ = ["PASSPHRASE", "AgentProcess", "BenchError", "EchoProcess", "Memory", "program", "run_load"]

ROOT: Final = Path(__file__).parent.parent
PASSPHRASE: Final = b"a passphrase for the benchmark"
PATIENCE: Final = 30.0
"""Seconds for a process to answer after its start, and to end after it was told to."""

POLL: Final = 0.002
"""Seconds between attempts to connect to a process that starts: the error of a measured start."""


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident bytes of a process; ``pss`` counts shared pages by their share, None where it is not told."""

    rss: int
    pss: int | None


class _Process:
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


class EchoProcess(_Process):
    """The echo server; ``core`` to run on, None for any."""

    def __init__(self, directory: Path, core: int | None) -> None:
        address = directory / "echo.sock"
        address.unlink(missing_ok=True)
        pinned = [] if core is None else [str(core)]
        super().__init__(
            [sys.executable, "-m", "bench.echo", str(address), *pinned], address, directory / "echo.log"
        )


class AgentProcess(_Process):
    """An agent with a store in ``directory``, which may have been made by one before it.

    Args:
        directory: everything that the agent writes is in it.
        core: to run on; None for any.
        cache: the setting of that name, bytes; None for the default.
        wrapper: a command to run it under, which ends with it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        core: int | None = None,
        cache: int | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        # The key derivation is measured apart: the least that the agent accepts will do.
        settings = "[unlock]\nkdf_target = 0\n" + (f"[store]\ncache = {cache}\n" if cache is not None else "")
        (directory / "agent.toml").write_text(settings, "utf-8")
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        address = directory / "run" / "agent.sock"
        command = [
            *wrapper,
            *pinned,
            program("keyholt-agent"),
            *("--config", str(directory / "agent.toml")),
            *("--socket", str(address)),
            *("--state-dir", str(directory / "state")),
        ]
        super().__init__(command, address, directory / "agent.log")

    def init(self) -> None:
        """Create the store."""
        with keyholt.connect(self.socket) as agent:
            agent.init(passphrase=PASSPHRASE)

    def unlock(self) -> None:
        with keyholt.connect(self.socket) as agent:
            agent.unlock(passphrase=PASSPHRASE)

    def memory(self) -> Memory:
        """What it holds resident now."""
        try:
            rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text("ascii")
        except PermissionError:
            # The agent is not dumpable: only root sees more than the sum.
            return Memory(rss=_kib(Path(f"/proc/{self.pid}/status").read_text("utf-8"), "VmRSS"), pss=None)
        return Memory(rss=_kib(rollup, "Rss"), pss=_kib(rollup, "Pss"))


def program(name: str) -> str:
    """The path of a program of the installed project.

    Raises:
        BenchError: it is not installed beside this interpreter.
    """
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise BenchError(f"{name} is not installed beside this interpreter; run `make bench`")
    return str(path)


def run_load(job: Job) -> Measured:
    """Have a load generator do a job.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(dataclasses.asdict(job)).encode(),
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
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
