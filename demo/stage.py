"""The demonstration's stage: a fresh directory, an agent in it, and the telling of what is done.

Every check that does not hold ends the demonstration with a sentence and exit status 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

__all__ = ["DemoError", "Stage", "require", "say", "step"]

START_LIMIT: Final = 30.0
"""Seconds for the agent to answer after its start."""

_BOLD, _PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


class DemoError(Exception):
    """Something did not hold; the message says what."""


def step(title: str) -> None:
    """Announce the next step."""
    print(f"\n{_BOLD}{title}{_PLAIN}", flush=True)


def say(text: str) -> None:
    """Say what came of something."""
    for line in text.splitlines() or [""]:
        print(f"   {line}", flush=True)


def require(holds: bool, claim: str) -> None:
    """Say ``claim`` if it holds, and end the demonstration if not.

    Raises:
        DemoError: it does not hold.
    """
    if not holds:
        raise DemoError(f"this does not hold: {claim}")
    say(f"✓ {claim}")


class Stage:
    """A directory with an agent in it, which is stopped when the ``with`` is left.

    Args:
        directory: fresh and empty; everything happens in it.
        programs: where ``keyholt`` and ``keyholt-agent`` are.
    """

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self.socket = directory / "run" / "agent.sock"
        self._programs = programs
        self._agent: subprocess.Popen[bytes] | None = None
        self._log = directory / "agent.log"
        self.environment = {**os.environ, "KEYHOLT_ADDRESS": str(self.socket)}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_agent()

    def start_agent(self) -> None:
        """Start the agent and wait until it answers."""
        command = [
            str(self._programs / "keyholt-agent"),
            *("--socket", str(self.socket)),
            *("--state-dir", str(self.directory / "state")),
        ]
        say(f"$ {self._shown(command)} &")
        with self._log.open("ab") as log:
            self._agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT
        while self.run("status", quiet=True, check=False).returncode != 0:
            if self._agent.poll() is not None or time.monotonic() > deadline:
                self._fail("the agent does not answer")
            time.sleep(0.05)
        say(f"agent runs as process {self._agent.pid}")

    def stop_agent(self) -> None:
        """Stop the agent as a service manager does, and wait until it has ended."""
        if self._agent is not None:
            self._agent.terminate()
            status = self._agent.wait(timeout=START_LIMIT)
            self._agent = None
            if status != 0:
                self._fail(f"the agent ended with status {status}")

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        quiet: bool = False,
        check: bool = True,
        tail: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``keyholt``, show the command, and give what it printed.

        Args:
            arguments: of ``keyholt``.
            stdin: what it reads.
            quiet: do not show the command.
            check: require that it succeeds.
            tail: further arguments, such as a command to run.
        """
        command = [str(self._programs / "keyholt"), *arguments, *tail]
        if not quiet:
            say(f"$ {self._shown(command)}")
        done = subprocess.run(
            command, input=stdin, capture_output=True, env=self.environment, cwd=self.directory, check=False
        )
        if check and done.returncode != 0:
            raise DemoError(f"{self._shown(command)} failed: {done.stderr.decode(errors='replace').strip()}")
        return done

    def _shown(self, command: Sequence[str]) -> str:
        words = [Path(command[0]).name, *command[1:]]
        return " ".join(words).replace(str(self.directory), ".").replace(sys.executable, "python")

    def _fail(self, what: str) -> NoReturn:
        log = self._log.read_text("utf-8", errors="replace").strip().splitlines()[-5:]
        raise DemoError("\n".join([what, "the end of its log:", *log]))
