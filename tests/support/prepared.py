"""Agents for the tests of what an agent does, not of how it starts: prepared, so that a start costs next to
nothing.

Most of a test's time would else go into the imports of every start and the key derivation of every unlock.

- Each is a real process that runs all of the agent's own start, hardening included; but it is forked from
  one that has imported the modules already (``forking``).
- Argon2 does the least that it can (``forking.cheapen_derivations``); everything around it is real. A store
  of such an agent opens with such an agent alone, and ``store_keys`` has to be told (``cheap``).
- What needs a new process (a command in front, options of ``Popen``) gets one.

How the installed program starts and what it leaves in memory is not tested with these: ``tests/system`` has
an ``installed`` agent for that, and so have the tests of the client.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.agent_process import AgentProcess
from tests.support.forking import MAX_REQUEST
from tests.support.programs import KEYHOLT_AGENT

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.agent_process import Process

__all__ = ["Preparation", "PreparedAgent"]

INTERPRETER: Final = (sys.executable, "-I", "-W", "always")

PROGRAM: Final = f"""
import sys
sys.path.append({os.fspath(Path(__file__).parents[2])!r})
from tests.support.forking import become, serve
if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
become()
"""


class Forked:
    """A process that was forked elsewhere and adopted: what ``Popen`` offers of it."""

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        status = self._wait(0)
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Preparation:
    """The process that agents are forked from; leaving the block ends it."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*INTERPRETER, "-c", PROGRAM, "serve", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, arguments: list[str], environment: dict[str, str], directory: Path, log: int) -> Forked:
        """An agent that is started like that, with ``log`` for its output; the caller waits for its end."""
        asked = {"arguments": arguments, "environment": environment, "directory": os.fspath(directory)}
        request = json.dumps(asked).encode()
        assert len(request) <= MAX_REQUEST
        socket.send_fds(self._requests, [request], [log])
        answer = self._requests.recv(20)
        assert answer, "the process that agents are forked from has ended"
        return Forked(int(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.close()
        self._process.wait()


@dataclass
class PreparedAgent(AgentProcess):
    """One of them.

    Attributes:
        preparation: where it is forked.
    """

    preparation: Preparation = field(kw_only=True)

    def command(self) -> list[str]:
        command = super().command()
        at = command.index(KEYHOLT_AGENT)
        return [*command[:at], "-c", PROGRAM, *command[at + 1 :]]

    def _spawn(self, environment: dict[str, str], log: int, options: dict[str, object]) -> Process:
        if self.wrapper or options:
            return super()._spawn(environment, log, options)
        command = super().command()
        arguments = command[command.index(KEYHOLT_AGENT) :]
        return self.preparation.fork(arguments, environment, self.home, log)
