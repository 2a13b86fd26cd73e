"""The agent locks itself when it was not used, when it was unlocked for long, and after sleep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from keyholt_agent.vault.autolock import STRETCH, AutoLock
from keyholt_agent.vault.state import LockReason

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.mark.parametrize(
    "idle, life, expected",
    [(10.0, 100.0, 60.0), (100.0, 30.0, 40.0), (0.0, 30.0, 40.0), (10.0, 0.0, 60.0), (0.0, 0.0, math.inf)],
)
def test_deadline(idle: float, life: float, expected: float) -> None:
    """Unlocked at 10, in use until 50: the earlier of both limits, 0 is none; use past it is refused."""
    now = 10.0
    auto = AutoLock(idle, life, clock=lambda: now)
    assert auto.deadline == math.inf
    auto.start()
    for now in (15.0, 24.0, 33.0, 42.0, 50.0):
        assert auto.use() == (now < auto.deadline)
    assert auto.deadline == expected
    assert auto.deadline == min(auto.idle_deadline, auto.lifetime_deadline)
    now = 1e6
    later = LockReason.LIFETIME if life else LockReason.IDLE if idle else None
    assert auto.due() == later
    auto.stop()
    assert auto.due() is None


async def test_idle_agent_locks_once(autojump_clock: MockClock) -> None:
    """At the deadline, not before; use puts it off; nothing more happens until it is unlocked again."""
    locks: list[float] = []
    auto = AutoLock(30.0, 0.0, clock=trio.current_time)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auto.run, lambda _: locks.append(trio.current_time() - start))
        await trio.sleep(100)
        assert locks == []
        auto.start()
        await trio.sleep(20)
        assert auto.use()
        await trio.sleep(29)
        assert locks == []
        assert auto.due() is None
        await trio.sleep(100)
        assert locks == pytest.approx([150])
        assert auto.deadline == math.inf
        auto.start()
        await trio.sleep(31)
        assert locks == pytest.approx([150, 279])
        nursery.cancel_scope.cancel()


async def test_used_agent_locks_at_the_end_of_its_life(autojump_clock: MockClock) -> None:
    """However much it is used."""
    locks: list[float] = []
    auto = AutoLock(10.0, 60.0, clock=trio.current_time)
    auto.start()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auto.run, lambda _: locks.append(trio.current_time() - start))
        for _ in range(30):
            await trio.sleep(2.5)
            auto.use()
        assert locks == pytest.approx([60])
        nursery.cancel_scope.cancel()


async def test_time_asleep_counts(autojump_clock: MockClock) -> None:
    """The boot clock jumps while trio's stands still: expired at once, locked within a stretch."""
    asleep = 0.0
    locks: list[float] = []
    auto = AutoLock(3600.0, 0.0, clock=lambda: trio.current_time() + asleep)
    auto.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auto.run, lambda _: locks.append(trio.current_time()))
        await trio.sleep(1)
        assert auto.due() is None
        asleep = 4000.0
        assert auto.due() is LockReason.IDLE
        assert not auto.use()
        await trio.sleep(STRETCH)
        assert len(locks) == 1
        nursery.cancel_scope.cancel()


async def test_agent_that_was_locked_by_hand_is_left_alone(autojump_clock: MockClock) -> None:
    """No second lock follows, and the next unlock begins a new life."""
    locks: list[float] = []
    auto = AutoLock(30.0, 0.0, clock=trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auto.run, lambda _: locks.append(trio.current_time()))
        auto.start()
        await trio.sleep(10)
        auto.stop()
        await trio.sleep(100)
        assert locks == []
        assert auto.due() is None
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("limit, wakes", [(0.0, math.inf), (3600.0, STRETCH)])
async def test_agent_that_never_locks_itself_wakes_for_nobody(
    limit: float, wakes: float, mock_clock: MockClock
) -> None:
    """Without a limit nothing is waited for; with one, the control, the clock is looked at anew."""
    auto = AutoLock(limit, 0.0, clock=trio.current_time)
    auto.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auto.run, list)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == wakes
        nursery.cancel_scope.cancel()
