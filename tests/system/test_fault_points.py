"""Crashes and failed system calls within a write: here some of the places, in ``tests/torture`` all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.fault_points import crash_points, error_points
from tests.support.rekey_points import rekey_points

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

PLACES = [("pwrite64", 9, 20), ("fdatasync", 3, 5), ("ftruncate", 1, 1)]
"""A kind of call, which of them are taken (one in so many), and how many there are at least."""

REKEY_PLACES = [("pwrite64", 50, 1000, 50), ("fdatasync", 2, 5, 5)]
"""The same, of a rekey with its rewrapping, and the last that is taken: with the third ``fdatasync`` the new
root key is committed."""


@pytest.mark.parametrize("call, step, least", PLACES)
def test_crash_at_a_call(stopped: AgentProcess, call: str, step: int, least: int) -> None:
    """Killed at a call of the store: what was acknowledged is there, and the store opens."""
    assert crash_points(stopped, call, step) >= least


@pytest.mark.parametrize("call, step, last, least", REKEY_PLACES)
def test_crash_at_a_call_of_a_rekey(
    stopped: AgentProcess, call: str, step: int, last: int, least: int
) -> None:
    """Killed at a call of it: it is wholly in force or wholly not, and every keyslot that stays opens."""
    assert rekey_points(stopped, call, step, last) >= least


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call, step, least", PLACES)
def test_error_at_a_call(stopped: AgentProcess, call: str, step: int, least: int, error: str) -> None:
    """A call that fails: nothing is acknowledged that is not there, and the agent recovers by itself."""
    assert error_points(stopped, call, error, step) >= least
