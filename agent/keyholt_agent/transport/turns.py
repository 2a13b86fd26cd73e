"""Whose turn it is: what one connection has the agent do is not what the others wait for.

The loop does one thing at a time, and nothing interrupts it. So what is done at a time is little (a
connection's ``SHARE``), and after it whoever was quiet comes before whoever was not:

- First those that have become ready, those first that were served longest ago; a turn that took long counts
  as if it had been later (``COST``). Who waits comes nearer to the front with everyone that is served.
- Then, one at a time and in their order, those that have more to be served after having been served: a peer
  that sends without waiting for answers, or takes a long one piece by piece, waits behind all that do not.
  After each it is looked who has become ready meanwhile. At least one has its turn in each pass: nobody is
  passed over for ever.
- A call that has much to do in a task of its own pauses now and then, and goes on when its turn comes: one
  such call in each pass.

It is by connection, not by user: the first promise is to a quiet connection beside many of the same user, and
that does not depend on how many they are. What a user takes by the number of connections is bounded by
their number (``quotas``). Decided in docs/adr/0027.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from time import perf_counter
from typing import Final, Protocol

import trio

__all__ = ["Entry", "Job", "Lookout", "Observe", "Turns"]

Job = Callable[[], Awaitable[None]]
"""What the server is to start as a task."""

LOOK: Final = 400e-6
"""Seconds of serving whoever has become ready after which it is looked who else has: a look costs 1.5 us."""

PASS: Final = 1.5e-3
"""Seconds after which other tasks have their turn, such as calls that the store has answered."""

CALM: Final = 0.02
"""Seconds without anybody new after which a turn of those that have more may be longer: one who floods, or
who sends much and harms nobody, is alone then. Whoever comes next waits for one such turn."""

COST: Final = 64
"""How many times its length a turn puts its connection back, behind those that were served meanwhile."""


class Entry(ABC):
    """What has turns.

    Attributes:
        behind: whether it is in the middle of something, such as a long answer, so that it waits behind those
            that are not, whenever it becomes ready.
        dry: false after being served with more to be served, so that nothing else tells when there is.
        due: whoever's is earlier has the earlier turn, by the clock of the turns.
        queued: whether it waits for a turn without being ready anew.
        since: since when it waits, at the earliest; kept for whoever observes.
    """

    __slots__ = ("behind", "dry", "due", "queued", "since")

    def __init__(self) -> None:
        self.behind = False
        self.dry = True
        self.due = 0.0
        self.queued = False
        self.since = 0.0

    @abstractmethod
    def serve(self) -> Sequence[Job]:
        """Do a little of what there is to do; gives what has to be waited for."""

    def serve_more(self, *, calm: bool) -> Sequence[Job]:
        """Do a little more of what there was too much of for one turn.

        Args:
            calm: nobody else has come for a while, so that it need not be as little as otherwise.
        """
        del calm  # there are things of which no turn is longer than another
        return self.serve()

    def hang_up(self) -> None:  # noqa: B027 (nothing, unless there is an end to be read)
        """Its peer sends nothing more; see ``common_wait``."""


Observe = Callable[[Entry, float], None]
"""Is told of everything that was served, and how many seconds at most it had been ready for when that was
done: from the look before the one that found it ready, or from when the agent woke up."""


class Lookout(Protocol):
    """Where it is seen who has become ready; see ``common_wait.CommonWait``."""

    before: float
    """When it was looked last before the last look, or the agent woke up for it."""

    def look(self) -> Sequence[Entry]:
        """Who has become ready since the last look."""
        ...

    def readable(self) -> bool:
        """Whether a look would find anybody."""
        ...


_due = attrgetter("due")


class Turns:
    """The queue of everything that is ready.

    Args:
        lookout: asked between two turns who has become ready.
        observe: see there; None for nobody, which costs nothing.
        clock: seconds that only rise.

    Attributes:
        some_behind: whether any entry may be ``behind``.
    """

    def __init__(
        self, lookout: Lookout, observe: Observe | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._lookout: Final = lookout
        self._observe: Final = observe
        self._clock: Final = clock
        self._come: list[Entry] = []  # have become ready
        self._more: Final[deque[Entry]] = deque()  # were served and have more
        self._paused: Final[deque[trio.lowlevel.Task]] = deque()
        self.some_behind = False
        self._sender = 0  # the id of who had more to be served last
        self._came = -CALM  # when somebody was served last that had become ready, and was not that one

    @property
    def waiting(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._come or self._more or self._paused)

    def come(self, ready: Sequence[Entry]) -> None:
        """Take in who has become ready; those that wait for their next turn go on waiting for that."""
        if self._observe is not None:
            for one in ready:
                if not one.queued:
                    one.since = self._lookout.before
        if not (self._more or self.some_behind):  # as nearly always
            self._come += ready
            return
        for one in ready:
            if one.queued:
                continue
            if one.behind:
                one.queued = True
                self._more.append(one)
            else:
                self._come.append(one)

    def serve(self) -> Sequence[Job]:
        """One pass; gives the jobs that came of it."""
        come = self._come
        if len(come) == 1 and not (self._more or self._paused or self._observe):
            # As nearly always: one is ready, nobody else waits, and nothing has to be decided.
            one = come.pop()
            jobs = one.serve()
            if not one.dry:
                self._keep(one)
            return jobs
        return self._pass()

    def _pass(self) -> list[Job]:
        jobs: list[Job] = []
        clock, more = self._clock, self._more
        now = clock()
        end, owed = now + PASS, bool(more)  # one of those has its turn in this pass, whoever else comes
        while True:
            # 1. Whoever has become ready, until it is time to look again.
            now = self._serve_come(now, min(end, now + LOOK), jobs)
            if now >= end:
                break
            # 2. One that has more, once nobody else is there.
            if not self._come:
                if not more:
                    break
                now = self._turn(more.popleft(), now, jobs)
                owed = False
            self.come(self._lookout.look())
        if owed and more:
            self._turn(more.popleft(), now, jobs)
        if self._paused:
            trio.lowlevel.reschedule(self._paused.popleft())
        return jobs

    def _serve_come(self, now: float, until: float, jobs: list[Job]) -> float:
        """Serve those that have become ready, until all are or the time is over; gives the time."""
        come, clock = self._come, self._clock
        if len(come) > 1 or (come and id(come[0]) != self._sender):
            self._came = now
        if len(come) > 1:
            come.sort(key=_due)
        for one in come:
            if unstarted := one.serve():
                jobs += unstarted
            then = clock()
            one.due = then + (then - now) * COST
            now = then
            if self._observe is not None:
                self._observe(one, now - one.since)
            if not one.dry:
                self._keep(one)
            if now >= until:
                del come[: come.index(one) + 1]
                return now
        come.clear()
        return now

    def clear(self) -> None:
        """Nobody waits for a turn any more."""
        self._come.clear()
        self._more.clear()

    async def pause(self) -> None:
        """Let others have their turn, if there are any; for a call that has much to do."""
        if not (self.waiting or self._lookout.readable()):
            return
        task = trio.lowlevel.current_task()
        self._paused.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._paused.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _turn(self, one: Entry, began: float, jobs: list[Job]) -> float:
        """Serve one that has more; gives the time."""
        one.queued = False
        if unstarted := one.serve_more(calm=began - self._came > CALM):
            jobs += unstarted
        now = self._clock()
        one.due = now + (now - began) * COST
        if self._observe is not None:
            self._observe(one, now - one.since)
        if not one.dry:
            self._keep(one)
        return now

    def _keep(self, one: Entry) -> None:
        """Have one that was served wait for its next turn."""
        self._sender = id(one)
        one.dry = one.queued = True
        one.since = self._clock()
        self._more.append(one)
