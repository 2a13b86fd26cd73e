"""How many connections there may be: one user's never shut out the others."""

from __future__ import annotations

import pytest

from keyholt_agent.quotas import ConnectionQuotas
from keyholt_protocol.errors import ResourceExhaustedError


def test_half_is_the_most_for_one_user() -> None:
    """Any uid but the agent's own and root gets half; what one has taken leaves the rest to others."""
    quotas = ConnectionQuotas(10, frozenset({0}))
    for _ in range(5):
        quotas.take(1000)
    with pytest.raises(ResourceExhaustedError, match="max_connections"):
        quotas.take(1000)
    for _ in range(3):
        quotas.take(2000)
    quotas.take(0)
    quotas.take(0)
    for uid in (0, 2000, 3000):
        with pytest.raises(ResourceExhaustedError):
            quotas.take(uid)
    assert quotas.count == 10
    quotas.give_back(1000)
    quotas.take(3000)
    for uid, count in ((1000, 4), (2000, 3), (0, 2), (3000, 1)):
        for _ in range(count):
            quotas.give_back(uid)
    assert quotas.count == 0
    quotas.take(1000)


def test_unlimited_user_may_use_all() -> None:
    """The agent's own uid has every connection if it wants, and no more."""
    quotas = ConnectionQuotas(4, frozenset({7}))
    for _ in range(4):
        quotas.take(7)
    with pytest.raises(ResourceExhaustedError):
        quotas.take(7)
