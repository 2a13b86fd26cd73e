"""Agents for the tests of the whole process: fresh ones, and one for tests that leave it as it was."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """An unlocked agent with one secret, for a whole module."""
    with AgentProcess(tmp_path_factory.mktemp("shared")) as agent:
        agent.found()
        keep_one(agent)
        yield agent
