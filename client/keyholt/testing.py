"""A real agent for the tests of a program that uses Keyholt. With pytest: the fixture ``keyholt_agent``.

::

    with keyholt.testing.Agent() as agent:          # without pytest
        client = keyholt.connect(agent.address)

- It is the agent as it is installed (``pip install 'keyholt[testing]'``), in a process and a directory of its
  own, unlocked, and gone with all that it kept when the block is left.
- Only for tests: its passphrase stands below, and its keyslot has the cheapest key derivation that the agent
  allows, so that making a store takes a tenth of a second.
- A process takes longer to start than most tests take. ``reset`` empties one for the next test.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from keyholt.arguments import request_of
from keyholt.blocking import Client, connect
from keyholt.invocations import invocation_of
from keyholt_protocol import messages as m
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import AgentUnreachableError, KeyholtError

__all__ = ["PASSPHRASE", "Agent", "AgentStartError"]

PASSPHRASE: Final = b"for tests only"
"""Opens the keyslot of every agent made here."""

_CONFIGURATION: Final = """\
# Made by keyholt.testing, for a store that holds nothing real.
[unlock]
kdf_target = 0      # the cheapest derivation that is allowed
idle_timeout = 0    # a test that stands in a debugger is not locked out
"""

_PATIENCE: Final = 60.0
"""Seconds for an agent to serve, or to end; on a busy machine as well."""

_POLL: Final = 0.005


class AgentStartError(Exception):
    """The agent did not start; the message says why, and what to do."""


class Agent:
    """One agent for tests; runs while ``with`` lasts, and has these only then.

    Attributes:
        address: where it serves: the path of its socket.
        passphrase: opens its keyslot, to ``unlock`` it after a test has locked it.
        directory: holds its socket, its store and its log; readable by this user only.

    Raises:
        AgentStartError: (on entering) it is not installed, or did not start.
    """

    address: str
    passphrase: bytes
    directory: Path
    _slots: tuple[m.SlotInfo, ...]
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the agent has written so far; it never holds a value."""
        return (self.directory / "log").read_text("utf-8", "replace")

    def connect(self, *, timeout: float | None = _PATIENCE) -> Client:
        """A blocking client of it, the caller's to close."""
        return connect(self.address, timeout=timeout)

    def reset(self) -> bool:
        """Make it as good as new for the next test: unlocked, and without a secret.

        What was deleted keeps its history: the next version of a path that was written before is not 1.

        Returns:
            False where it cannot be had so: a keyslot was changed, or it does not run. Make another one then.
        """
        try:
            with self.connect() as client:
                if client.status().state == "locked":
                    client.unlock(passphrase=self.passphrase)
                for _ in client.perform_all(
                    invocation_of(ops.SECRET_DELETE, request_of(m.SecretDeleteRequest, path=info.path))
                    for info in client.list()
                ):
                    pass
                return client.slots.list() == self._slots
        except KeyholtError:
            return False

    def __enter__(self) -> Agent:
        self.passphrase = PASSPHRASE
        self.directory = Path(tempfile.mkdtemp(prefix="keyholt-"))
        self.address = str(self.directory / "agent.sock")
        try:
            self._process = self._launch()
            with self._first_connection(self._process) as client:
                client.init(passphrase=self.passphrase)
                self._slots = client.slots.list()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)  # a test may have stopped it
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _launch(self) -> subprocess.Popen[bytes]:
        configuration = self.directory / "agent.toml"
        configuration.write_text(_CONFIGURATION, "utf-8")
        places = ["--config", str(configuration), "--socket", self.address]
        with (self.directory / "log").open("wb") as log:
            return subprocess.Popen(
                [_program(), *places, "--state-dir", str(self.directory / "state")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )

    def _first_connection(self, process: subprocess.Popen[bytes]) -> Client:
        """The first one that it takes: nothing tells when it serves, so it is tried until it does."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.connect()
            except AgentUnreachableError as error:
                if process.poll() is not None:
                    raise AgentStartError(f"the agent did not start: {self.log.strip()}") from None
                if time.monotonic() > deadline:
                    raise AgentStartError(f"the agent does not serve: {error}") from error
            time.sleep(_POLL)


def _program() -> str:
    """The agent's program: the one beside this interpreter, else the one on the path."""
    beside = Path(sys.executable).with_name("keyholt-agent")
    found = str(beside) if beside.exists() else shutil.which("keyholt-agent")
    if found is None:
        raise AgentStartError("there is no keyholt-agent; install it with `pip install 'keyholt[testing]'`")
    return found
