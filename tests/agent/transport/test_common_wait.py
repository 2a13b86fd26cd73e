"""Waiting for many descriptors in one task: who is ready, who is not, and whose turn it is."""

from __future__ import annotations

import socket
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from keyholt_agent.transport.common_wait import AT_ONCE, EDGE, READABLE, WRITABLE, CommonWait

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


class Watched(int):
    """A number that is watched, and may be told that its peer has hung up."""

    def hang_up(self) -> None:
        HUNG_UP.append(self)


HUNG_UP: list[Watched] = []


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Connected sockets, more of them than one turn serves."""
    made = [socket.socketpair() for _ in range(AT_ONCE + 10)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


@pytest.fixture
def wait() -> Iterator[CommonWait[Watched]]:
    """Nothing watched yet."""
    with CommonWait[Watched]() as wait:
        yield wait


async def test_only_what_is_ready_is_given(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """And as long as nothing is, the task waits."""
    for number, (ours, _) in enumerate(pairs):
        wait.watch(ours.fileno(), READABLE, Watched(number))
    with trio.move_on_after(0.02) as scope:
        await wait.ready()
    assert scope.cancelled_caught
    pairs[3][1].send(b"x")
    assert await wait.ready() == [3]
    assert await wait.ready() == [3]  # until it was read
    pairs[3][0].recv(1)
    pairs[5][1].send(b"x")
    assert await wait.ready() == [5]


async def test_nobody_is_passed_over(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """With more ready than one turn serves, and all of them ready again at once, each has the same turns."""
    for number, (ours, theirs) in enumerate(pairs):
        wait.watch(ours.fileno(), READABLE, Watched(number))
        theirs.send(b"x")  # never read, so always ready
    turns: Counter[int] = Counter()
    for _ in range(len(pairs)):
        ready = await wait.ready()
        assert len(ready) == AT_ONCE
        turns.update(ready)
    assert set(turns) == set(range(len(pairs)))
    assert max(turns.values()) - min(turns.values()) <= 1


async def test_changed_and_forgotten(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """Another event is waited for in the place of the first; what is forgotten is never given."""
    ours, theirs = pairs[0]
    wait.watch(ours.fileno(), READABLE, Watched(0))
    wait.change(ours.fileno(), WRITABLE)
    assert await wait.ready() == [0]
    wait.change(ours.fileno(), READABLE)
    theirs.send(b"x")
    assert await wait.ready() == [0]
    wait.leave(ours.fileno())
    wait.watch(pairs[1][0].fileno(), WRITABLE, Watched(1))
    assert await wait.ready() == [1]


async def test_number_that_is_given_out_again(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """A descriptor that was forgotten and closed is watched anew under the same number, as another one."""
    ours, theirs = pairs[0]
    fd = ours.fileno()
    wait.watch(fd, READABLE, Watched(0))
    theirs.send(b"x")
    wait.forget(fd)
    ours.close()
    again, other = socket.socketpair()
    with again, other:
        assert again.fileno() == fd
        wait.watch(fd, READABLE, Watched(1))
        with trio.move_on_after(0.02) as scope:
            await wait.ready()
        assert scope.cancelled_caught
        other.send(b"x")
        assert await wait.ready() == [1]


async def test_others_have_their_turn(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """Between two turns every other task that can go on goes on, however much is ready."""
    wait.watch(pairs[0][0].fileno(), WRITABLE, Watched(0))
    steps = [0]

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            steps[0] += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(20):
            await wait.ready()
        nursery.cancel_scope.cancel()
    assert steps[0] >= 15  # it began a turn or two later


async def test_one_that_hangs_up_is_ready(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """A peer that leaves while nothing is read of it is noticed."""
    ours, theirs = pairs[0]
    wait.watch(ours.fileno(), READABLE, Watched(0))
    found: list[list[Watched]] = []

    async def look() -> None:
        found.append(await wait.ready())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await wait_all_tasks_blocked(0.01)
        theirs.close()
    assert found == [[0]]


async def test_edge_is_given_once(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """However long it goes unread; again when more comes, and when it is watched for the same anew."""
    ours, theirs = pairs[0]
    wait.watch(ours.fileno(), READABLE | EDGE, Watched(0))
    theirs.send(b"x")
    assert await wait.ready() == [0]
    assert wait.look() == []
    theirs.send(b"x")
    assert wait.look() == [0]
    wait.change(ours.fileno(), READABLE | EDGE)
    assert wait.look() == [0]
    assert await wait.ready(busy=True) == []


async def test_hanging_up_is_told(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """Of a peer that shuts its sending side, and of one that closes, before what it sent was read."""
    HUNG_UP.clear()
    for number in (0, 1, 2):
        wait.watch(pairs[number][0].fileno(), READABLE | EDGE, Watched(number))
        pairs[number][1].send(b"x")
    assert sorted(await wait.ready()) == [0, 1, 2]
    pairs[0][1].shutdown(socket.SHUT_WR)
    pairs[1][1].close()
    assert sorted(await wait.ready()) == [0, 1]
    assert sorted(HUNG_UP) == [0, 1]


async def test_readable_takes_nothing(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """Whether a look would find anything can be asked before, and it is still found."""
    wait.watch(pairs[0][0].fileno(), READABLE | EDGE, Watched(0))
    assert not wait.readable()
    pairs[0][1].send(b"x")
    assert wait.readable()
    assert wait.look() == [0]
    assert not wait.readable()


async def test_times_of_looks(wait: CommonWait[Watched], pairs: list[Pair]) -> None:
    """What a look finds became ready after the look before it; kept only where somebody wants to know."""
    wait.watch(pairs[0][0].fileno(), READABLE | EDGE, Watched(0))
    wait.look()
    assert wait.before == 0.0
    wait.timed = True
    wait.look()
    began = perf_counter()
    wait.look()
    pairs[0][1].send(b"x")
    wait.look()
    assert began <= wait.before <= perf_counter()
