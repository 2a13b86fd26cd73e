"""Defects of the agent that no request meets, planted in a real one: what it outlives, and what ends it.

A contained one ends the piece of work that met it. The agent ends where the rest could not go on without what
failed: then in order, with a status that tells a service manager to start it again.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import PASSPHRASE, AgentProcess, hurried, poll, wait_ended
from tests.support.unharmed import KEPT, KEPT_PATH
from tests.support.wire import ClosedError

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = """
import sys
from keyholt_agent import start
from keyholt_agent.store import thread
from keyholt_agent.transport import common_wait
from keyholt_agent.vault import autolock, rewrapping
calls = 0
def broken(*_):
    global calls
    calls += 1
    if calls > {harmless}:
        raise ZeroDivisionError("CANARY")
    return original(*_)
original = {place}
{place} = broken
rewrapping.PAUSE = 0.01
sys.exit(start.main())
"""

DEADLY = {
    "the automatic lock": ("autolock.AutoLock.due", 0),
    "the store's thread": ("thread.clear_residue", 3),
    "the common wait": ("common_wait.CommonWait._found", 2),
}
"""Where a defect ends the agent, and after how many calls that did not meet it."""


@dataclass
class DefectiveAgent(AgentProcess):
    """An agent in which one function fails from some call on."""

    place: str = ""
    harmless: int = 0

    def command(self) -> list[str]:
        program = PLANTED.format(place=self.place, harmless=self.harmless)
        return [sys.executable, "-I", "-c", program, *super().command()[5:]]


@pytest.fixture
def agent(installed: AgentProcess) -> AgentProcess:
    """What is started here is a process of its own, with its own code."""
    return installed


@pytest.fixture(scope="session")
def new_state(installed_state: Path) -> Path:
    """And so it was where the store comes from."""
    return installed_state


@pytest.fixture
def defective(stopped: AgentProcess) -> DefectiveAgent:
    """Still without a defect; it holds one secret, and is not running."""
    return DefectiveAgent(stopped.home)


def test_rewrapping_outlives_a_defect(defective: DefectiveAgent) -> None:
    """It is logged by its place each time, nothing of its message, and all that was there is served."""
    defective.place = "rewrapping.Rewrapping._rewrap_batch"
    with hurried(defective.start_unlocked()), defective.connect() as client:
        client.call("store.rekey").expect()
        poll(lambda: defective.log.count("defect: ZeroDivisionError at ") > 2)
        assert client.call("secret.get", path=KEPT_PATH).expect().payload == KEPT
        client.call("agent.lock").expect()
        client.call("agent.unlock", PASSPHRASE).expect()
        assert client.call("secret.get", path=KEPT_PATH).expect().payload == KEPT
        assert client.status()["to_rewrap"] > 0
    assert "CANARY" not in defective.log
    assert "Traceback" not in defective.log


@pytest.mark.parametrize("part", DEADLY)
def test_what_nothing_can_go_on_without_ends_the_agent(defective: DefectiveAgent, part: str) -> None:
    """With status 1, the place of the defect, a sentence, no socket, and no log of the store left behind."""
    defective.place, defective.harmless = DEADLY[part]
    defective.config += "idle_timeout = 900\n"
    with hurried(defective.start()):
        with defective.connect() as client, suppress(ClosedError):
            client.call("agent.unlock", PASSPHRASE)
            for _ in range(5):
                client.call("agent.status")
        assert defective.process is not None
        assert wait_ended(defective.process) == 1
    said = defective.log.splitlines()
    assert "defect: ZeroDivisionError at " in said[-2]
    assert said[-1].startswith("keyholt-agent: it has met a defect")
    assert "CANARY" not in defective.log
    assert "Traceback" not in defective.log
    assert not defective.socket_path.exists()
    assert not list(defective.state.glob("store.db-*"))
