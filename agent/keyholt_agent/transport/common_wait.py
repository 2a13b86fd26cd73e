"""The common wait: one task waits for many descriptors, and learns which of what it watches is ready.

- A descriptor that is watched with ``EDGE`` is given once when it becomes ready, and again only when more has
  come or it is watched anew: whoever is given it sees to it that nothing is left, or that it comes back to
  it by itself (``turns``). It costs nothing while it waits there for its turn.
- A descriptor stays registered between its events: a connection that is quiet costs no task, no wake-up and
  no system call, and one that is busy costs its share of one ``epoll_wait`` (docs/adr/0020).
- Between two waits every other task of the agent has its own.
"""

from __future__ import annotations

import select
from time import perf_counter
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

import trio

__all__ = ["EDGE", "READABLE", "WRITABLE", "CommonWait", "Waiting"]

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP
WRITABLE: Final = select.EPOLLOUT
EDGE: Final = select.EPOLLET
"""Of these, that a descriptor is given when it becomes so, and not for as long as it is (epoll(7))."""

_HUNG_UP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

AT_ONCE: Final = 64
"""Descriptors given at one look; the kernel keeps the others for the next, and puts those that are still
ready behind them."""


class Waiting(Protocol):
    """What is watched."""

    def hang_up(self) -> None:
        """Its peer has closed, or shut, its end: what is left to be read ends without a further event."""


Watched = TypeVar("Watched", bound=Waiting)


class CommonWait(Generic[Watched]):
    """What is watched, by its descriptor. Leaving the ``with`` watches nothing any more."""

    def __init__(self) -> None:
        self._epoll: Final = select.epoll()
        self._watched: Final[dict[int, Watched]] = {}
        self._probe: Final = select.poll()
        self._probe.register(self._epoll.fileno(), select.POLLIN)
        self.timed = False  # whether the times of looks are kept
        self._looked = 0.0
        self.before = 0.0  # when it was looked last before the last look, or the task woke up for it

    def watch(self, fd: int, events: int, watched: Watched) -> None:
        """Give ``watched`` in each turn in which ``fd`` has one of ``events``, or its peer has hung up."""
        self._epoll.register(fd, events)
        self._watched[fd] = watched

    def change(self, fd: int, events: int) -> None:
        """Watch for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def leave(self, fd: int) -> None:
        """Watch ``fd`` no more."""
        self._epoll.unregister(fd)
        del self._watched[fd]

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no more, which is about to be closed: the kernel drops it by itself (epoll(7))."""
        del self._watched[fd]

    async def ready(self, *, busy: bool = False) -> list[Watched]:
        """Wait until something is ready, and give it.

        Args:
            busy: there is something to do in any case: only let other tasks have their turn.
        """
        if self.timed:
            self._note_look()
        events = self._epoll.poll(0, AT_ONCE)
        if events or busy:
            await trio.lowlevel.checkpoint()
        while not (events or busy):
            # An epoll descriptor is readable when one of its own is ready (epoll(7)): trio can wait for it.
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            if self.timed:
                self._note_look(woken=True)
            events = self._epoll.poll(0, AT_ONCE)
        return self._found(events)

    def look(self) -> list[Watched]:
        """What has become ready since it was looked last."""
        if self.timed:
            self._note_look()
        events = self._epoll.poll(0, AT_ONCE)
        return self._found(events)

    def readable(self) -> bool:
        """Whether a look would find anything."""
        return bool(self._probe.poll(0))

    def _note_look(self, *, woken: bool = False) -> None:
        now = perf_counter()
        self.before, self._looked = now if woken else self._looked, now

    def _found(self, events: list[tuple[int, int]]) -> list[Watched]:
        watched = self._watched
        if len(events) == 1 and events[0][1] == select.EPOLLIN and events[0][0] in watched:
            return [watched[events[0][0]]]  # as where little is going on
        for fd in [fd for fd, flags in events if flags & _HUNG_UP]:
            if fd in watched:
                watched[fd].hang_up()
        return [watched[fd] for fd, _ in events if fd in watched]

    def __enter__(self) -> CommonWait[Watched]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watched.clear()
        self._epoll.close()
