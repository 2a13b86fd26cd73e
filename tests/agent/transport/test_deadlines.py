"""Debts that all fall due the same time after they were made, by a clock of the test's own."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.transport.deadlines import Deadlines


class Overdue:
    """Deadlines of ten seconds, and whose fell due."""

    def __init__(self) -> None:
        self.deadlines: Deadlines[str] = Deadlines(10)
        self.told: list[str] = []


@pytest.fixture
def overdue(nursery: trio.Nursery) -> Overdue:
    """Running already, so that the first debt wakes it."""
    overdue = Overdue()
    nursery.start_soon(overdue.deadlines.run, overdue.told.append)
    return overdue


async def test_each_falls_due_in_its_time(overdue: Overdue, mock_clock: MockClock) -> None:
    """In the order in which they were made, and none before."""
    for debtor in "abc":
        overdue.deadlines.owe(debtor)
        mock_clock.jump(4)
        await wait_all_tasks_blocked()
    assert overdue.told == ["a"]
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    assert overdue.told == ["a"]
    mock_clock.jump(100)
    await wait_all_tasks_blocked()
    assert overdue.told == ["a", "b", "c"]


async def test_paid_and_made_anew(overdue: Overdue, mock_clock: MockClock) -> None:
    """What was paid never falls due; a new debt runs from its own beginning; idle again, it wakes again."""
    for _ in range(2):
        overdue.told.clear()
        for debtor in "abc":
            overdue.deadlines.owe(debtor)
        await wait_all_tasks_blocked()
        mock_clock.jump(6)
        overdue.deadlines.settle("a")
        overdue.deadlines.settle("nobody")
        overdue.deadlines.owe("b")
        mock_clock.jump(6)
        await wait_all_tasks_blocked()
        assert overdue.told == ["c"]
        mock_clock.jump(4)
        await wait_all_tasks_blocked()
        assert overdue.told == ["c", "b"]
        mock_clock.jump(1000)
        await wait_all_tasks_blocked()
        assert overdue.told == ["c", "b"]


async def test_one_that_pays_for_another(mock_clock: MockClock) -> None:
    """Whoever is told may pay others' debts: those are not told after."""
    deadlines: Deadlines[str] = Deadlines(10)
    told: list[str] = []

    def tell(debtor: str) -> None:
        told.append(debtor)
        for other in "abc":
            deadlines.settle(other)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run, tell)
        for debtor in "abc":
            deadlines.owe(debtor)
        mock_clock.jump(11)
        await wait_all_tasks_blocked()
        assert told == ["a"]
        nursery.cancel_scope.cancel()
