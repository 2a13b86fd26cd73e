"""The common wait: one task waits for many descriptors, and learns which of what it watches is ready.

- A descriptor stays registered between its events: a connection that is quiet costs no task, no wake-up and
  no system call, and one that is busy costs its share of one ``epoll_wait`` (docs/adr/0020).
- Between two turns every other task of the agent has its own.
"""

from __future__ import annotations

import select
from types import TracebackType
from typing import Final, Generic, TypeVar

import trio

__all__ = ["READABLE", "WRITABLE", "CommonWait"]

Watched = TypeVar("Watched")

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT

AT_ONCE: Final = 64
"""Descriptors served in one turn: so many that the turn's own cost is thin (a few microseconds), so few that
a task which waits for the store's answer waits under a millisecond for the end of the turn. The kernel puts
what was served behind what was not, so nobody is passed over (epoll(7), level-triggered)."""


class CommonWait(Generic[Watched]):
    """What is watched, by its descriptor. Leaving the ``with`` watches nothing any more."""

    def __init__(self) -> None:
        self._epoll: Final = select.epoll()
        self._watched: Final[dict[int, Watched]] = {}

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

    async def ready(self) -> list[Watched]:
        """Wait until something is ready; gives as much of it as one turn may serve."""
        events = self._epoll.poll(0, AT_ONCE)
        if events:
            await trio.lowlevel.checkpoint()
        while not events:
            # An epoll descriptor is readable when one of its own is ready (epoll(7)): trio can wait for it.
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            events = self._epoll.poll(0, AT_ONCE)
        watched = self._watched
        return [watched[fd] for fd, _ in events if fd in watched]

    def __enter__(self) -> CommonWait[Watched]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watched.clear()
        self._epoll.close()
