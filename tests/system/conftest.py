"""Agents for the tests of the whole process: fresh ones, and one for tests that leave it as it was.

Who needs a store to begin with, and not its creation, gets a copy of one that another agent has made.
They are prepared ones, which start and unlock in no time; a module that is about either, or about what is in
memory, puts ``installed`` and ``installed_state`` in the place of ``agent`` and ``new_state``.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.prepared import Preparation, PreparedAgent
from tests.support.unharmed import keep_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def preparation() -> Iterator[Preparation]:
    """Where agents are forked."""
    with Preparation() as preparation:
        yield preparation


@pytest.fixture
def agent(tmp_path: Path, preparation: Preparation) -> Iterator[AgentProcess]:
    """An agent that was never started; stopped in the end, and its log checked."""
    with PreparedAgent(tmp_path, preparation=preparation) as agent:
        yield agent


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[AgentProcess]:
    """The same, of the program as it is installed."""
    with AgentProcess(tmp_path) as agent:
        yield agent


def left_by(agent: AgentProcess) -> Path:
    """The state directory that an agent leaves: a store with one secret. To be copied, never to be used."""
    with agent:
        agent.start_new()
        keep_one(agent)
    return agent.state


@pytest.fixture(scope="session")
def prepared_state(tmp_path_factory: pytest.TempPathFactory, preparation: Preparation) -> Path:
    """What a prepared agent has left."""
    return left_by(PreparedAgent(tmp_path_factory.mktemp("prepared_state"), preparation=preparation))


@pytest.fixture(scope="session")
def installed_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installed one has left."""
    return left_by(AgentProcess(tmp_path_factory.mktemp("installed_state")))


@pytest.fixture(scope="session")
def new_state(prepared_state: Path) -> Path:
    """What ``agent`` starts from where it is to have a store."""
    return prepared_state


@pytest.fixture
def stopped(agent: AgentProcess, new_state: Path) -> AgentProcess:
    """An agent with a store that holds one secret; it is not running, and was stopped as told."""
    shutil.copytree(new_state, agent.state)
    return agent


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory, prepared_state: Path, preparation: Preparation
) -> Iterator[AgentProcess]:
    """One unlocked agent with one secret. What a test does to it leaves it ``unharmed``, or adds secrets."""
    agent = PreparedAgent(tmp_path_factory.mktemp("shared"), preparation=preparation)
    shutil.copytree(prepared_state, agent.state)
    with agent:
        yield agent.start_unlocked()
