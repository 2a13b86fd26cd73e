"""A real agent in a process of its own, and what can be seen of it from outside.

- It runs as an installed one does: the program, with every warning besides, a configuration file, a socket, a
  state directory, nothing else of the test's environment.
- ``stop`` checks that it left as told and that its log holds no defect, no traceback and no warning of the
  interpreter.
- Whoever starts one stops or kills it; both wait for its end.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from tests.support.programs import KEYHOLT_AGENT
from tests.support.wire import WireClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["PASSPHRASE", "PATIENCE", "AgentProcess", "Process", "StartError", "hurried", "poll", "wait_ended"]

T = TypeVar("T")

PASSPHRASE: Final = b"correct horse battery staple"
FAST: Final = "[unlock]\nkdf_target = 0\n"
"""The least derivation that is allowed; a passphrase takes an agent that long and no longer."""

PATIENCE: Final = 60.0
"""Seconds for anything that has to come; a machine that is busy with other things may take some of them."""

POLL: Final = 0.005
"""Seconds between two looks: the only sleep there is, and always for something that has to come."""

DEFECT: Final = re.compile(r"defect|Traceback|Exception ignored|Warning:|never awaited")


class Process(Protocol):
    """What is needed of ``subprocess.Popen``."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class StartError(Exception):
    """The agent ended instead of serving; ``status`` is its exit status, the message its log."""

    def __init__(self, status: int, log: str) -> None:
        super().__init__(log)
        self.status = status


def poll(what: Callable[[], T | None], *, patience: float = PATIENCE) -> T:
    """What ``what`` gives once it is true; fails when it takes too long."""
    deadline = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < deadline, "waited for in vain"
        time.sleep(POLL)
    return found


def wait_ended(process: Process, *, patience: float = PATIENCE) -> int:
    """The exit status of a process that has to end; fails when it takes too long.

    ``Popen.wait`` with a time-out looks every 50 ms, as long as an agent takes to stop; this is told at once.
    """
    if (status := process.poll()) is not None:
        return status
    descriptor = os.pidfd_open(process.pid)
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        assert ended.poll(patience * 1000), f"process {process.pid} does not end"
    finally:
        os.close(descriptor)
    return process.wait()


@dataclass
class AgentProcess:
    """One agent that can be started again and again over the same directory.

    Attributes:
        home: holds configuration, socket directory, state directory and log.
        config: TOML.
        wrapper: a command in front of the agent's own, one that becomes it or starts it.
        environment: further variables.
    """

    home: Path
    config: str = FAST
    wrapper: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    socket_path: Path = field(init=False)
    state: Path = field(init=False)
    process: Process | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.socket_path = self.home / "run" / "agent.sock"
        self.state = self.home / "state"

    @property
    def store(self) -> Path:
        return self.state / "store.db"

    @property
    def log(self) -> str:
        """Everything that the agent has written so far, over all its lives."""
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        """How it is started."""
        config = self.home / "agent.toml"
        config.write_text(self.config, encoding="utf-8")
        return [
            *self.wrapper, sys.executable, "-I", "-W", "always", KEYHOLT_AGENT, "--config", str(config),
            "--socket", str(self.socket_path), "--state-dir", str(self.state),
        ]  # fmt: skip

    def launch(self, **options: object) -> Process:
        """Start it, without waiting for anything."""
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **self.environment,
        }
        with (self.home / "log").open("ab") as log:
            self.process = self._spawn(environment, log.fileno(), options)
        return self.process

    def _spawn(self, environment: dict[str, str], log: int, options: dict[str, object]) -> Process:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=self.home,
            **options,  # type: ignore[call-overload]
        )
        return process

    def start(self, **options: object) -> Self:
        """Start it, and wait until it serves.

        Raises:
            StartError: it ended instead.
        """
        log = self.home / "log"
        before = len(self.log) if log.exists() else 0
        process = self.launch(**options)
        poll(lambda: ": serving " in self.log[before:] or process.poll() is not None)
        if (status := process.poll()) is not None:
            self.process = None
            raise StartError(status, self.log[before:])
        return self

    def start_new(self) -> Self:
        """Start it for the first time, and create the store."""
        self.start()
        with self.connect() as client:
            client.call("store.init", PASSPHRASE).expect()
        return self

    def start_unlocked(self) -> Self:
        """Start it again, and unlock."""
        self.start()
        with self.connect() as client:
            client.call("agent.unlock", PASSPHRASE).expect()
        return self

    def refusal(self, **options: object) -> str:
        """The sentence with which it refuses to start."""
        try:
            self.start(**options)
        except StartError as error:
            refusal = error
        else:
            self.kill()
            raise AssertionError("the agent started")
        assert refusal.status == 1, f"exit status {refusal.status}: {refusal}"
        lines = [line for line in str(refusal).splitlines() if not line.startswith("keyholt-agent: INFO")]
        assert len(lines) == 1, lines
        return lines[0].removeprefix("keyholt-agent: ")

    def connect(self, *, greet: bool = True) -> WireClient:
        return WireClient(self.socket_path, greet=greet)

    def stop(self) -> None:
        """Tell it to end, and check how it did."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            status = wait_ended(process)
            assert status == 0, f"exit status {status}: {self.log}"
            self.check_log()

    def check_log(self) -> None:
        """Nothing in the log is a defect."""
        found = [line for line in self.log.splitlines() if DEFECT.search(line)]
        assert not found, self.log

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            wait_ended(process)

    def descriptors(self) -> list[str]:
        """What each open descriptor refers to."""
        folder = Path(f"/proc/{self.pid}/fd")
        return sorted(re.sub(r"\d+", "N", os.readlink(folder / name)) for name in os.listdir(folder))

    def resident(self) -> int:
        """Bytes of resident memory."""
        return self._status_bytes("VmRSS")

    def peak_resident(self) -> int:
        """Bytes of resident memory at most so far."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        match = re.search(rf"{name}:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()


@contextmanager
def hurried(agent: AgentProcess) -> Iterator[AgentProcess]:
    """An agent that is killed in the end, whatever happened."""
    try:
        yield agent
    finally:
        agent.kill()
