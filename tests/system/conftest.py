"""Agents for the tests of the whole process: fresh ones, and one for tests that leave it as it was.

Who needs a store to begin with, and not its creation, gets a copy of one that another agent has made.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.unharmed import keep_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent that was never started; stopped in the end, and its log checked."""
    with AgentProcess(tmp_path) as agent:
        yield agent


@pytest.fixture(scope="session")
def new_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory that an agent has left: a store with one secret. To be copied, never to be used."""
    with AgentProcess(tmp_path_factory.mktemp("new_state")) as agent:
        agent.start_new()
        keep_one(agent)
    return agent.state


@pytest.fixture
def stopped(agent: AgentProcess, new_state: Path) -> AgentProcess:
    """An agent with a store that holds one secret; it is not running, and was stopped as told."""
    shutil.copytree(new_state, agent.state)
    return agent


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, new_state: Path) -> Iterator[AgentProcess]:
    """One unlocked agent with one secret. What a test does to it leaves it ``unharmed``, or adds secrets."""
    agent = AgentProcess(tmp_path_factory.mktemp("shared"))
    shutil.copytree(new_state, agent.state)
    with agent:
        yield agent.start_unlocked()
