"""How many connections there may be: one user's never shut out the others."""

from __future__ import annotations

import pytest

from keyholt_agent.transport.admission import ConnectionLimits
from keyholt_protocol.errors import ResourceExhaustedError


def test_half_is_the_most_for_one_user() -> None:
    """Any uid but the agent's own and root gets half; what one has taken leaves the rest to others."""
    limits = ConnectionLimits(10, frozenset({0}))
    for _ in range(5):
        limits.take(1000)
    with pytest.raises(ResourceExhaustedError, match="max_connections"):
        limits.take(1000)
    for _ in range(3):
        limits.take(2000)
    limits.take(0)
    limits.take(0)
    for uid in (0, 2000, 3000):
        with pytest.raises(ResourceExhaustedError):
            limits.take(uid)
    assert limits.count == 10
    limits.give_back(1000)
    limits.take(3000)
    for uid, count in ((1000, 4), (2000, 3), (0, 2), (3000, 1)):
        for _ in range(count):
            limits.give_back(uid)
    assert limits.count == 0
    limits.take(1000)


def test_unlimited_user_may_use_all() -> None:
    """The agent's own uid has every connection if it wants, and no more."""
    limits = ConnectionLimits(4, frozenset({7}))
    for _ in range(4):
        limits.take(7)
    with pytest.raises(ResourceExhaustedError):
        limits.take(7)
