"""Whose turn it is, by a clock of the test's own: a flood makes nobody else wait for more than a turn of it.

Counted in turns and in the clock's seconds, which only turns make pass.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from keyholt_agent.transport.turns import CALM, LOOK, PASS, Entry, Job, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FETCH = 20e-6
"""Seconds of a turn that fetches, on this clock."""


class World:
    """Connections, the clock, and who becomes ready when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.before = 0.0
        self.served: list[Peer] = []
        self.ready: list[Peer] = []
        self.during: Callable[[], None] = lambda: None
        self.looks = 0

    def look(self) -> Sequence[Entry]:
        self.looks += 1
        found, self.ready = self.ready, []
        return found

    def readable(self) -> bool:
        return bool(self.ready)

    def turns(self, **options: object) -> Turns:
        return Turns(self, clock=lambda: self.now, **options)  # type: ignore[arg-type]


class Peer(Entry):
    """A connection whose turn takes so long; with ``backlog`` it has always more to be served."""

    def __init__(self, world: World, takes: float, *, backlog: bool = False) -> None:
        super().__init__()
        self.world = world
        self.takes = takes
        self.backlog = backlog
        self.calm = False

    def serve_more(self, *, calm: bool) -> Sequence[Job]:
        self.calm = calm
        return self.serve()

    def serve(self) -> Sequence[Job]:
        self.world.now += self.takes
        self.world.served.append(self)
        self.world.during()
        if self.backlog:
            self.dry = False
        return ()


@pytest.fixture
def world() -> World:
    """Nobody ready yet."""
    return World()


@pytest.mark.parametrize("count", [1, 8, 200, 5000])
def test_flood_costs_a_quiet_connection_one_turn_of_it(world: World, count: int) -> None:
    """Whoever sends without end waits behind whoever does not, however many they are."""
    flood = [Peer(world, 50e-6, backlog=True) for _ in range(count)]
    quiet = Peer(world, FETCH)
    turns = world.turns()
    turns.come(flood)
    while len(set(world.served)) < count:
        turns.serve()
    waited: list[int] = []
    for gap in range(1, 60):
        world.served.clear()
        asked: list[int] = []

        def ask(gap: int = gap, asked: list[int] = asked) -> None:
            if not asked and len(world.served) == gap:
                asked.append(len(world.served))
                world.ready.append(quiet)

        world.during = ask
        while quiet not in world.served:
            assert turns.waiting
            turns.come(world.look())
            turns.serve()
        waited.append(world.served.index(quiet) - asked[0])
    assert set(waited) == {0}  # the turn in which it became ready was the last before its own


def test_without_that_order_a_flood_would_be_waited_for(world: World) -> None:
    """The control: were those with more to be served taken for newly ready, all of them would come before."""
    flood = [Peer(world, 50e-6, backlog=True) for _ in range(200)]
    quiet = Peer(world, FETCH)
    turns = world.turns()
    turns.come([*flood, quiet])
    turns.serve()
    while quiet not in world.served:
        turns.come(world.look())
        turns.serve()
    assert world.served.index(quiet) >= 200


def test_nobody_is_passed_over(world: World) -> None:
    """With others newly ready in every pass, one that has more has its turn in each, and they take turns."""
    flood = [Peer(world, 50e-6, backlog=True) for _ in range(10)]
    crowd = [Peer(world, FETCH) for _ in range(100)]
    turns = world.turns()
    turns.come(flood)
    turns.serve()
    world.served.clear()
    for _ in range(40):
        turns.come(crowd)
        turns.serve()
        world.ready.clear()
    count = Counter(one for one in world.served if one.backlog)
    assert sum(count.values()) >= 40
    assert max(count.values()) - min(count.values()) <= 1


def test_served_longest_ago_comes_first(world: World) -> None:
    """Among those that become ready together; equal ones in the order in which they did."""
    often, seldom, first, second = (Peer(world, FETCH) for _ in range(4))
    turns = world.turns()
    for _ in range(5):
        turns.come([often, Peer(world, FETCH)])
        turns.serve()
    world.now += 1
    turns.come([often, seldom, first, second])
    world.served.clear()
    turns.serve()
    assert world.served == [seldom, first, second, often]


def test_costly_turns_put_a_connection_back(world: World) -> None:
    """Served at the same time as another, it comes after it for a while, though not for ever."""
    costly, cheap = Peer(world, 500e-6), Peer(world, FETCH)
    turns = world.turns()
    turns.come([costly, cheap])
    turns.serve()
    world.served.clear()
    for _ in range(3):
        turns.come([costly, cheap])
        turns.serve()
        assert world.served[0] is cheap
        world.served.clear()
    for _ in range(100):
        world.now += 1e-3
        turns.come([cheap, Peer(world, FETCH)])
        turns.serve()
    world.served.clear()
    turns.come([cheap, costly])
    turns.serve()
    assert world.served == [costly, cheap]


def test_closed_loops_of_many_keep_a_quiet_one_waiting_for_one_look(world: World) -> None:
    """They send again when they are answered: who asks seldom comes before them at the next look."""
    crowd = [Peer(world, 50e-6) for _ in range(500)]
    quiet = Peer(world, FETCH)
    turns = world.turns()
    turns.come(crowd)
    world.during = lambda: world.ready.append(world.served[-1])
    for _ in range(100):
        turns.serve()
        turns.come(world.look())
    world.served.clear()
    since: list[int] = []

    def ask() -> None:
        world.ready.append(world.served[-1])
        if len(world.served) == 10:
            since.append(10)
            world.ready.append(quiet)

    world.during = ask
    while quiet not in world.served:
        turns.serve()
        turns.come(world.look())
    assert world.served.index(quiet) - since[0] <= LOOK / 50e-6 + 1


def test_a_pass_ends(world: World) -> None:
    """After a while other tasks have their turn, whoever is still ready; nothing is lost by that."""
    crowd = [Peer(world, 100e-6) for _ in range(100)]
    turns = world.turns()
    turns.come(crowd)
    while turns.waiting:
        began, served = world.now, len(world.served)
        turns.serve()
        assert world.now - began <= PASS + 200e-6
        assert len(world.served) > served
    assert Counter(world.served) == Counter(crowd)


def test_turns_are_longer_when_nobody_else_comes(world: World) -> None:
    """One that has more and is alone for a while; the next that comes ends that at once."""
    flood, quiet = Peer(world, 50e-6, backlog=True), Peer(world, FETCH)
    turns = world.turns()
    turns.come([flood, quiet])
    until = world.now + CALM
    while world.now < until - PASS:
        turns.serve()
        assert not flood.calm
    while world.now < until + PASS:
        turns.serve()
    assert flood.calm
    turns.come([quiet])
    turns.serve()
    assert not flood.calm


def test_ready_again_while_it_waits_is_one_turn(world: World) -> None:
    """Whoever has more to be served and sends still more comes no sooner by that."""
    flood = Peer(world, 50e-6, backlog=True)
    turns = world.turns()
    turns.come([flood])
    turns.serve()
    flood.backlog = False
    world.ready = [flood, flood]
    world.served.clear()
    while turns.waiting:
        turns.come(world.look())
        turns.serve()
    assert world.served == [flood]


def test_one_alone_is_served_at_once(world: World) -> None:
    """Without a look, and without a clock: there is nothing to decide."""
    turns = Turns(world)
    peer = Peer(world, FETCH)
    turns.come([peer])
    assert turns.serve() == ()
    assert world.served == [peer]
    assert world.looks == 0
    assert not turns.waiting


def test_observer_is_told_of_the_wait(world: World) -> None:
    """From the look before the one that found it to the end of its turn."""
    told: list[tuple[Entry, float]] = []
    turns = world.turns(observe=lambda one, waited: told.append((one, waited)))
    peers = [Peer(world, FETCH), Peer(world, 3 * FETCH)]
    world.before = world.now - 1e-3
    turns.come(peers)
    turns.serve()
    assert [one for one, _ in told] == peers
    assert [waited for _, waited in told] == pytest.approx([1e-3 + FETCH, 1e-3 + 4 * FETCH])


async def test_pauses_let_others_go_first(world: World) -> None:
    """A call that pauses goes on after the next pass, one such call in each; without others it goes on."""
    turns = world.turns()
    await turns.pause()  # nobody is there
    done: list[int] = []

    async def call(number: int) -> None:
        for _ in range(3):
            await turns.pause()
            done.append(number)

    world.ready.append(Peer(world, FETCH))
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(call, number)
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        for passes in range(1, 13):
            world.ready.append(Peer(world, FETCH))
            turns.come(world.look())
            turns.serve()
            world.ready.append(Peer(world, FETCH))
            await trio.testing.wait_all_tasks_blocked()
            assert len(done) == passes
    assert Counter(done) == dict.fromkeys(range(4), 3)


async def test_paused_call_that_is_cancelled(world: World) -> None:
    """It is waited for no more."""
    turns = world.turns()
    world.ready.append(Peer(world, FETCH))
    with trio.move_on_after(0.01) as scope:
        await turns.pause()
    assert scope.cancelled_caught
    assert not turns.waiting
