"""When an unlocked agent locks itself: after a time without use, and after a time in any case.

- Its clock is CLOCK_BOOTTIME, which goes on while a laptop sleeps: it wakes up locked. trio's own clock
  stands still meanwhile, so the loop sleeps in short stretches and looks again.
- A request asks ``use`` first, so that no key is used in the moments between deadline and loop.

It does not lock: it calls what it was given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from keyholt_agent.vault.state import LockReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.clocks import Clock

__all__ = ["AutoLock"]

STRETCH: Final = 5.0
"""Seconds. How long past its deadline an agent that slept may stay unlocked without a request."""


class AutoLock:
    """The deadline of one agent.

    Args:
        idle_timeout: seconds without use; 0 for no such limit.
        max_lifetime: seconds since the unlock; 0 for no such limit.
        clock: seconds that only rise and count time asleep.
    """

    def __init__(self, idle_timeout: float, max_lifetime: float, clock: Clock) -> None:
        self._idle_timeout = idle_timeout or math.inf
        self._max_lifetime = max_lifetime or math.inf
        self._clock = clock
        self._stopped = True
        self._last_used = 0.0
        self._end_of_life = math.inf
        self._armed = trio.Event()

    @property
    def idle_deadline(self) -> float:
        """When the agent locks if no key is used; infinity while it is locked, or for never."""
        return math.inf if self._stopped else self._last_used + self._idle_timeout

    @property
    def lifetime_deadline(self) -> float:
        """When the agent locks in any case; infinity likewise."""
        return math.inf if self._stopped else self._end_of_life

    @property
    def deadline(self) -> float:
        """The earlier of both."""
        return min(self.idle_deadline, self.lifetime_deadline)

    def start(self) -> None:
        """The agent was unlocked: both durations begin now."""
        self._last_used = self._clock()
        self._end_of_life = self._last_used + self._max_lifetime
        self._stopped = False
        self._armed.set()

    def stop(self) -> None:
        """The agent was locked, by whomever."""
        self._stopped = True

    def use(self) -> bool:
        """A key is to be used: the idle time begins anew. False if the deadline has passed: lock instead."""
        now = self._clock()
        if now - self._last_used >= self._idle_timeout or now >= self._end_of_life:
            return False
        self._last_used = now
        return True

    def due(self) -> LockReason | None:
        """Why the agent is to be locked now, if a deadline has passed."""
        now = self._clock()
        if now >= self.lifetime_deadline:
            return LockReason.LIFETIME
        return LockReason.IDLE if now >= self.idle_deadline else None

    async def run(self, lock: Callable[[LockReason], object]) -> None:
        """Call ``lock`` whenever a deadline has passed, with the reason, for ever."""
        while True:
            if math.isinf(self.deadline):  # nothing comes by itself: whoever never locks wakes for nobody
                self._armed = trio.Event()
                await self._armed.wait()
            elif (reason := self.due()) is not None:
                self.stop()
                lock(reason)
            else:
                await trio.sleep(max(0.0, min(self.deadline - self._clock(), STRETCH)))
