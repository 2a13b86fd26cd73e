"""Agents for the tests of the client: real processes of ``keyholt_agent``, and the command line beside
them.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import keyholt
from tests.client.handing_out import CANARY, descriptor_to
from tests.client.libraries import Asyncio, Library, Trio
from tests.support.programs import KEYHOLT, KEYHOLT_AGENT

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = b"correct horse \xc3\xa9"
CONFIG = "[unlock]\nkdf_target = 0\n"


def environment() -> dict[str, str]:
    """The environment of a program started by a test: the source tree is importable, and no agent is
    named.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KEYHOLT_", "XDG_"))}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling itself anew is half the time of a command
    return {
        **clean,
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("agent", "protocol", "client")),
    }


@dataclass(frozen=True, slots=True)
class Result:
    """What a command came to."""

    status: int
    out: bytes
    err: str


def command_line(
    *words: str,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Result:
    """Run ``keyholt`` as a process, with nothing but ``env`` to tell it of an agent."""
    done = subprocess.run(
        [KEYHOLT, *words],
        input=stdin,
        capture_output=True,
        env={**environment(), **(env or {})},
        pass_fds=pass_fds,
        cwd=cwd,
        timeout=60,
        check=False,
        start_new_session=True,  # no terminal to ask on
    )
    assert b"Traceback" not in done.stderr
    return Result(done.returncode, done.stdout, done.stderr.decode())


class RunningAgent:
    """A process of the agent in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = str(directory / "run" / "agent.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it serves."""
        config = self.directory / "agent.toml"
        config.write_text(CONFIG)
        command = [KEYHOLT_AGENT, "--config", str(config), "--socket", self.address]
        self._process = subprocess.Popen(
            [*command, "--state-dir", str(self.directory / "state")],
            stderr=subprocess.PIPE,
            env=environment(),
        )
        assert self._process.stderr is not None
        said: list[bytes] = []
        for line in self._process.stderr:
            said.append(line)
            if b"serving" in line:
                return
        pytest.fail(b"".join(said).decode())

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.stderr is not None
            self._process.stderr.read()
            self._process.stderr.close()
            self._process.wait(20)
            self._process = None

    def restart(self) -> None:
        """Stop it and start it again; it is locked afterwards."""
        self.stop()
        self.start()

    def cli(
        self,
        *words: str,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> Result:
        """Run ``keyholt`` with this agent's address."""
        variables = {"KEYHOLT_ADDRESS": self.address, **(env or {})}
        return command_line(*words, stdin=stdin, env=variables, pass_fds=pass_fds, cwd=cwd)


@pytest.fixture(scope="session")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One unlocked agent for the whole session."""
    agent = RunningAgent(tmp_path_factory.mktemp("shared"))
    agent.start()
    try:
        with keyholt.connect(agent.address) as connection:
            connection.init(passphrase=PASSPHRASE)
        yield agent
    finally:
        agent.stop()


@pytest.fixture
def agent(shared_agent: RunningAgent) -> RunningAgent:
    """An unlocked agent that tests share; each writes below a prefix of its own and leaves it unlocked."""
    return shared_agent


@pytest.fixture
def shared(agent: RunningAgent) -> Iterator[socket.socket]:
    """A descriptor to an agent that holds the secret ``fd/a``, with the value ``CANARY``."""
    with keyholt.connect(agent.address) as client:
        client.put("fd/a", CANARY)
    with descriptor_to(agent.address) as sock:
        yield sock


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent without a store, for this test alone."""
    agent = RunningAgent(tmp_path)
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


@pytest.fixture(params=[Trio, Asyncio], ids=["trio", "asyncio"])
def library(request: pytest.FixtureRequest) -> Library:
    """Either library of tasks."""
    made: Library = request.param()
    return made
