"""Short-lived clients, many at once: each connects, greets, asks for one secret and closes.

- Greeting and question are an exchange each: the second is sent when the first was answered.
- A visit's latency is from before its socket is made until the value is there; the next begins when it has
  been closed.
"""

from __future__ import annotations

import itertools
import select
import socket
from collections.abc import Iterator
from time import perf_counter_ns

from bench.exchanges import GREETING, Exchange, echo_of, frame_size
from bench.jobs import STALL, Job, LoadError, Measured, Tally
from bench.lasting import RECEIVE_SIZE, check, prepared

__all__ = ["perform"]


class _Visit:
    """One connection, from its opening to its end; ``rest`` is what is still to be asked."""

    __slots__ = ("asked", "begun", "received", "rest", "sock")

    def __init__(self, place: str, first: Exchange, then: Exchange) -> None:
        self.begun = perf_counter_ns()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(place)
        self.sock.send(first.request)
        self.asked = first
        self.rest: Exchange | None = then
        self.received = b""

    def receive(self) -> int:
        """Receive; the size of an answer that is whole, 0 before."""
        data = self.received + self.sock.recv(RECEIVE_SIZE)
        size = frame_size(data)
        if len(data) < size and len(data) > len(self.received):
            self.received = data
            return 0
        check(self.asked, data, size)
        self.received = b""
        return size

    def go_on(self) -> bool:
        """Ask what is still to be asked, if anything is."""
        if self.rest is None:
            return False
        self.asked, self.rest = self.rest, None
        self.sock.send(self.asked.request)
        return True


def perform(job: Job) -> Measured:
    """Do a job of visits.

    Raises:
        LoadError: an answer is wrong or missing.
    """
    if job.kind == "visit":
        greeting, questions = GREETING, prepared(job)
    else:
        greeting, questions = echo_of(job.greeting_size, 1), itertools.repeat(echo_of(job.answer_size))
    tally = Tally(job)
    open_: dict[int, _Visit] = {}
    try:
        _drive(tally, open_, greeting, questions)
    finally:
        for visit in open_.values():
            visit.sock.close()
    return tally.result()


def _drive(tally: Tally, open_: dict[int, _Visit], greeting: Exchange, questions: Iterator[Exchange]) -> None:
    with select.epoll() as epoll:

        def begin() -> None:
            visit = _Visit(tally.job.place, greeting, next(questions))
            open_[visit.sock.fileno()] = visit
            epoll.register(visit.sock.fileno(), select.EPOLLIN)

        for _ in range(tally.job.connections):
            begin()
        while open_:
            events = epoll.poll(STALL)
            if not events:
                raise LoadError(f"no answer for {STALL:.0f} seconds")
            for descriptor, _ in events:
                visit = open_[descriptor]
                if not (size := visit.receive()):
                    continue
                if visit.asked is greeting:
                    tally.greeting_size = size
                if visit.go_on():
                    continue
                now = perf_counter_ns()
                tally.answer_size = size
                tally.answered(visit.begun, now)
                open_.pop(descriptor).sock.close()  # which takes it out of the epoll
                if now < tally.until:
                    begin()
