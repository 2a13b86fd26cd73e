"""A million hostile frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.hostile import attack
from tests.support.unharmed import ARENA, keep_one, unharmed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("seed", range(100, 110))
def test_hundred_thousand_frames(tmp_path: Path, seed: int) -> None:
    """The agent serves before, between and after; its memory stays within a bound, nothing is held."""
    with AgentProcess(tmp_path) as agent:
        agent.start_new()
        keep_one(agent)
        attack(agent, 5_000, seed + 1000)
        with unharmed(agent, growth=ARENA, same_files=False):
            assert attack(agent, 100_000, seed) > 50_000
