"""Wraps are counted ahead of use, in blocks, up to a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_agent.keys.budget import WRAP_RESERVATION, WRAPS_PER_VERSION, WrapBudget
from keyholt_protocol.errors import InternalError


def test_no_wrap_without_a_reservation() -> None:
    """Not even after a restart, when the rest of the last block counts as used."""
    budget = WrapBudget(WRAP_RESERVATION)
    with pytest.raises(InternalError, match="not reserved"):
        budget.take()
    assert budget.shortage() == WRAP_RESERVATION
    budget.grant(WRAP_RESERVATION)
    for _ in range(WRAP_RESERVATION):
        assert budget.shortage() is None
        budget.take()
    with pytest.raises(InternalError):
        budget.take()


def test_the_last_block_is_cut_to_the_limit() -> None:
    """And after it there is none: 0 says to rotate, also where a store counts more than there may be."""
    budget = WrapBudget(WRAPS_PER_VERSION - 1)
    assert budget.shortage() == 1
    budget.grant(1)
    budget.take()
    assert budget.shortage() == 0
    assert WrapBudget(WRAPS_PER_VERSION + 5).shortage() == 0


@given(reserved=st.integers(0, WRAPS_PER_VERSION), used=st.lists(st.integers(0, 1500), max_size=8))
def test_never_more_wraps_than_were_reserved(reserved: int, used: list[int]) -> None:
    """Across restarts at any point, the store counts no less than was wrapped, and no more than the limit."""
    wraps = reserved
    for count in used:
        budget = WrapBudget(reserved)
        for _ in range(count):
            shortage = budget.shortage()
            if shortage == 0:
                break
            if shortage is not None:
                reserved += shortage
                budget.grant(shortage)
            budget.take()
            wraps += 1
        assert wraps <= reserved <= WRAPS_PER_VERSION
