"""Who tries passphrases waits; nobody else does."""

from __future__ import annotations

import pytest

from keyholt_agent.vault.throttle import _MAX_QUOTAS, LONGEST_WAIT, UnlockThrottle
from keyholt_protocol.errors import RateLimitedError


def wait_after(throttle: UnlockThrottle, uid: int, now: float) -> float:
    """Fail at ``now``, and give the seconds until the next attempt is taken."""
    throttle.charge(uid, now)
    throttle.failed(uid, now)
    for tenths in range(1000):
        try:
            throttle._accounts[uid].charged  # noqa: B018 (the table still has it)
            UnlockThrottle.charge(_probe(throttle), uid, now + tenths / 10)
        except RateLimitedError:
            continue
        return tenths / 10
    raise AssertionError("never taken again")


def _probe(throttle: UnlockThrottle) -> UnlockThrottle:
    """A copy to ask without being charged for it."""
    probe = UnlockThrottle()
    for uid, account in throttle._accounts.items():
        probe._accounts[uid] = type(account)(account.charged, account.not_before)
    return probe


def test_waits_double_up_to_the_longest() -> None:
    """Three attempts in a row are free, then 1, 2, 4 .. 60 seconds."""
    throttle, now, waits = UnlockThrottle(), 100.0, []
    for _ in range(11):
        waits.append(wait_after(throttle, 1000, now))
        now += waits[-1]
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_refusal_names_the_seconds() -> None:
    """Rounded up, so that waiting that long is enough."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, 0.0)
        throttle.failed(1, 0.0)
    with pytest.raises(RateLimitedError, match="try again in 1 s"):
        throttle.charge(1, 0.5)
    throttle.charge(1, 1.0)


def test_attempts_side_by_side_are_charged_like_attempts_in_turn() -> None:
    """A fourth is refused although none of three has failed yet."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, 0.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(1, 0.0)


def test_wait_begins_when_the_attempt_has_failed() -> None:
    """The seconds of the derivation do not count as waiting."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, 0.0)
    throttle.failed(1, 5.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(1, 5.9)


def test_success_forgets_and_other_uids_are_free() -> None:
    """One uid's failures are its own."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, 0.0)
    throttle.charge(2, 0.0)
    throttle.succeeded(1)
    throttle.succeeded(3)
    throttle.failed(4, 0.0)
    throttle.charge(1, 0.0)


def test_memory_is_bounded() -> None:
    """Beyond the bound the uid that was quiet for longest is forgotten, no other."""
    throttle = UnlockThrottle()
    for uid in (0, 1):
        for _ in range(3):
            throttle.charge(uid, 0.0)
    for uid in range(2, _MAX_QUOTAS):
        throttle.charge(uid, 0.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(0, 0.5)
    throttle.charge(_MAX_QUOTAS, 0.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(0, 0.5)
    throttle.charge(1, 0.5)
    assert len(throttle._accounts) == _MAX_QUOTAS
