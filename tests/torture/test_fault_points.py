"""Crashes and failed system calls at every call of a put and a destroy, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.fault_points import crash_points, error_points
from tests.support.faults import STORE_CALLS
from tests.support.rekey_points import rekey_points

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.torture


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent whose store was made, not running."""
    with AgentProcess(tmp_path) as agent:
        agent.start_new()
        agent.stop()
        yield agent


@pytest.mark.parametrize("call", STORE_CALLS)
def test_crash_at_every_call(agent: AgentProcess, call: str) -> None:
    """Killed at each: what was acknowledged is there, and the store opens."""
    assert crash_points(agent, call)


@pytest.mark.parametrize("call", STORE_CALLS)
def test_crash_at_every_call_of_a_rekey(agent: AgentProcess, call: str) -> None:
    """Killed at each: it is wholly in force or wholly not, and every keyslot that stays opens."""
    assert rekey_points(agent, call)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("call", STORE_CALLS)
def test_error_at_every_call(agent: AgentProcess, call: str, error: str) -> None:
    """Each fails in turn: nothing is acknowledged that is not there, and the agent recovers by itself."""
    assert error_points(agent, call, error)
