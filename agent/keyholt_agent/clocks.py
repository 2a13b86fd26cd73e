"""The machine's clocks. What decides by time takes one of them as an argument, and reads none itself."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "WallClock", "boot_time", "fine_time", "wall_time"]

Clock = Callable[[], float]
"""Seconds that only rise, from any beginning."""

WallClock = Callable[[], int]
"""Whole seconds since 1970-01-01 UTC."""


def boot_time() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_time() -> int:
    """Seconds since 1970-01-01 UTC."""
    return int(time.time())


fine_time = time.time_ns
"""Nanoseconds since 1970-01-01 UTC: no two machines read the same at the same moment."""
