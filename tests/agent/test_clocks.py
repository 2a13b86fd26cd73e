"""The machine's clocks are the ones that they are said to be."""

from __future__ import annotations

import time

from keyholt_agent.clocks import boot_time, fine_time, wall_time


def test_boot_time_counts_time_asleep() -> None:
    """CLOCK_BOOTTIME, not CLOCK_MONOTONIC."""
    assert abs(boot_time() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1.0


def test_wall_time_is_in_whole_seconds() -> None:
    """Since 1970-01-01 UTC, as stored times are."""
    assert isinstance(wall_time(), int)
    assert abs(wall_time() - time.time()) <= 1.0


def test_fine_time_tells_moments_apart() -> None:
    """In nanoseconds since 1970-01-01 UTC."""
    assert abs(fine_time() / 1e9 - time.time()) <= 1.0
    assert len({fine_time() for _ in range(100)}) > 10
