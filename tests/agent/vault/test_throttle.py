"""Who tries passphrases waits; nobody else does."""

from __future__ import annotations

import copy

import pytest

from keyholt_agent.vault.throttle import _MAX_KNOWN, _MAX_QUOTAS, LONGEST_WAIT, UnlockThrottle
from keyholt_protocol.errors import RateLimitedError

A, B, C = b"slot a", b"slot b", b"slot c"


def wait_after(throttle: UnlockThrottle, uid: int, now: float) -> float:
    """Fail at ``now``, and give the seconds until the next attempt is taken."""
    throttle.charge(uid, A, now)
    throttle.failed(uid, A, now)
    return wait_at(throttle, uid, A, now)


def wait_at(throttle: UnlockThrottle, uid: int, slot: bytes, now: float) -> float:
    """Seconds until an attempt there is taken; nothing is charged for the question."""
    for tenths in range(1000):
        try:
            copy.deepcopy(throttle).charge(uid, slot, now + tenths / 10)
        except RateLimitedError:
            continue
        return tenths / 10
    raise AssertionError("never taken again")


def fail(throttle: UnlockThrottle, slot: bytes, times: int = 1, now: float = 0.0) -> None:
    """Try a wrong passphrase of uid 1."""
    for _ in range(times):
        throttle.charge(1, slot, now)
        throttle.failed(1, slot, now)


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
        throttle.charge(1, A, 0.0)
        throttle.failed(1, A, 0.0)
    with pytest.raises(RateLimitedError, match="try again in 1 s"):
        throttle.charge(1, A, 0.5)
    throttle.charge(1, A, 1.0)


def test_attempts_side_by_side_are_charged_like_attempts_in_turn() -> None:
    """A fourth is refused although none of three has failed yet."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, A, 0.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(1, A, 0.0)


def test_wait_begins_when_the_attempt_has_failed() -> None:
    """The seconds of the derivation do not count as waiting."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, A, 0.0)
    throttle.failed(1, A, 5.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(1, A, 5.9)


def test_success_forgets_and_other_uids_are_free() -> None:
    """One uid's failures are its own."""
    throttle = UnlockThrottle()
    for _ in range(3):
        throttle.charge(1, A, 0.0)
    throttle.charge(2, A, 0.0)
    throttle.succeeded(1, A)
    throttle.succeeded(3, A)
    throttle.failed(4, A, 0.0)
    throttle.charge(1, A, 0.0)


def test_memory_is_bounded() -> None:
    """Beyond the bound the uid that was quiet for longest is forgotten, no other."""
    throttle = UnlockThrottle()
    for uid in (0, 1):
        for _ in range(3):
            throttle.charge(uid, A, 0.0)
    for uid in range(2, _MAX_QUOTAS):
        throttle.charge(uid, A, 0.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(0, A, 0.5)
    throttle.charge(_MAX_QUOTAS, A, 0.0)
    with pytest.raises(RateLimitedError):
        throttle.charge(0, A, 0.5)
    throttle.charge(1, A, 0.5)
    assert len(throttle._accounts) == _MAX_QUOTAS


def test_success_at_one_keyslot_gives_no_guess_at_another() -> None:
    """Whoever knows one passphrase and shows it between guesses at another waits as if they had not."""
    throttle, now, waits = UnlockThrottle(), 0.0, []
    for _ in range(6):
        fail(throttle, B, now=now)
        throttle.charge(1, A, now)
        throttle.succeeded(1, A)
        waits.append(wait_at(throttle, 1, B, now))
        assert wait_at(throttle, 1, A, now) == 0
        now += waits[-1]
    assert waits == [0, 0, 1, 2, 4, 8]


def test_a_passphrase_is_charged_once_where_it_fails_before_it_opens() -> None:
    """Whoever unlocks without naming a keyslot may do so as often as they like."""
    throttle = UnlockThrottle()
    for _ in range(20):
        fail(throttle, B)
        throttle.charge(1, A, 0.0)
        throttle.succeeded(1, A, [B])
    assert throttle._accounts[1][B].charged == 1
    fail(throttle, B)
    assert wait_at(throttle, 1, B, 0.0) == 0


def test_a_changed_passphrase_is_another_guess() -> None:
    """A keyslot's owner may change its passphrase to a guess at another one: each such is charged."""
    throttle, now, waits = UnlockThrottle(), 0.0, []
    for turn in range(6):
        fail(throttle, B, now=now)
        changed = b"slot a %d" % turn
        throttle.charge(1, changed, now)
        throttle.succeeded(1, changed, [B])
        waits.append(wait_at(throttle, 1, B, now))
        now += waits[-1]
    assert waits == [0, 0, 1, 2, 4, 8]


def test_earlier_failures_stay_when_a_charge_is_taken_back() -> None:
    """What was guessed before is not forgotten with it."""
    throttle = UnlockThrottle()
    fail(throttle, B)
    throttle.charge(1, A, 0.0)
    throttle.succeeded(1, A, [B])
    fail(throttle, B, times=2)
    assert wait_at(throttle, 1, B, 0.0) == 1
    fail(throttle, B, now=1.0)
    throttle.charge(1, A, 1.0)
    throttle.succeeded(1, A, [B])
    assert throttle._accounts[1][B].charged == 3


def test_keyslots_that_are_gone_are_forgotten() -> None:
    """By whoever tries next, for themselves; so one quota's attempts are no more than there are keyslots."""
    throttle = UnlockThrottle()
    fail(throttle, A, times=3)
    fail(throttle, B, times=3)
    throttle.keep(2, {C})
    throttle.keep(1, {B, C})
    assert set(throttle._accounts[1]) == {B}
    assert wait_at(throttle, 1, B, 0.0) == 1


def test_what_is_known_of_one_keyslot_is_bounded() -> None:
    """However often another one's passphrase changes."""
    throttle, now = UnlockThrottle(), 0.0
    for turn in range(_MAX_KNOWN + 10):
        fail(throttle, B, now=now)
        throttle.charge(1, b"%d" % turn, now)
        throttle.succeeded(1, b"%d" % turn, [B])
        now += LONGEST_WAIT
    assert len(throttle._accounts[1][B].known) == _MAX_KNOWN
