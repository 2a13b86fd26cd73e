"""The allocator against a model that knows where every block has to be.

The model keeps the blocks that are out. From them alone follows which runs are free, where the next block
must lie (the lowest run that fits), and when there is none: so overlap, lost space, runs that were not joined
and blocks that were not zeroed all show. Allocators with each of these bugs planted are found out below.
"""

from __future__ import annotations

import ctypes
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from keyholt_agent.memory import Arena, LockedBuffer, wipe
from keyholt_agent.memory.backing import PAGE, Backing, open_backing
from keyholt_protocol.errors import ResourceExhaustedError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = PAGE
GRANULE = 64
SIZES = st.one_of(st.integers(0, 200), st.integers(0, SIZE + 1))


class ArenaMachine(RuleBasedStateMachine):
    """Allocate, release, drop; after each step the arena and the model agree."""

    buffers: Bundle[LockedBuffer] = Bundle("buffers")
    arena_type: type[Arena] = Arena

    def __init__(self) -> None:
        super().__init__()
        backing: Backing = open_backing("memfd_secret", SIZE)
        self.base = backing.address
        self.arena = self.arena_type(backing)
        self.out: dict[int, tuple[int, bytes]] = {}
        self.count = 0

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Free runs as offset and length, lowest first."""
        at = 0
        for start, (length, _) in sorted(self.out.items()):
            if start > at:
                yield at, start - at
            at = start + length
        if at < SIZE:
            yield at, SIZE - at

    @rule(target=buffers, size=SIZES)
    def allocate(self, size: int) -> Any:
        return self.allocated(size)

    def allocated(self, size: int) -> Any:
        """A block where the model has room for it, or ``_NONE`` where the model has none."""
        length = max(GRANULE, -(-size // GRANULE) * GRANULE)
        fitting = [(start, start + free) for start, free in self.gaps() if free >= length]
        try:
            buffer = self.arena.allocate(size)
        except (ResourceExhaustedError, TooLargeError):
            assert not fitting
            return _NONE
        try:
            place = buffer.address - self.base
            assert place % GRANULE == 0
            assert any(begin <= place and place + length <= end for begin, end in fitting)
            # The lowest that fits, unless a spare block lies in the way or is taken itself.
            assert length == GRANULE or place <= fitting[0][0] + 64 * GRANULE
            assert buffer.view == bytes(size)
        except AssertionError:
            buffer.release()
            raise
        self.count += 1
        mark = bytes([self.count % 255 + 1]) * size
        buffer.view[:] = mark
        self.out[buffer.address - self.base] = (length, mark)
        return buffer

    @rule(buffer=consumes(buffers))
    def release(self, buffer: LockedBuffer) -> None:
        if buffer is not _NONE:
            start = buffer.address - self.base
            buffer.release()
            self.gone(start)

    @rule(index=st.integers(0, 30))
    def drop(self, index: int) -> None:
        """A block of its own is allocated and forgotten, with no reference left."""
        for _ in range(index % 3):
            buffer = self.allocated(index * 7)
            if buffer is not _NONE:
                start = buffer.address - self.base
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    del buffer
                self.gone(start)

    def gone(self, start: int) -> None:
        _, mark = self.out.pop(start)
        assert ctypes.string_at(self.base + start, len(mark)) == bytes(len(mark))

    @invariant()
    def nothing_is_damaged(self) -> None:
        for start, (_, mark) in self.out.items():
            assert ctypes.string_at(self.base + start, len(mark)) == mark
        usage = self.arena.usage
        assert usage.blocks == len(self.out)
        assert usage.used == sum(length for length, _ in self.out.values())

    def teardown(self) -> None:
        for buffer in self.bundles_left():
            buffer.release()
        # All space returns, in one piece.
        self.arena.allocate(SIZE).release()
        assert self.arena.usage.used == 0
        self.arena.close()

    def bundles_left(self) -> list[LockedBuffer]:
        names = (reference.name for reference in self.bundles.get("buffers", []))
        return [buffer for name in names if (buffer := self.names_to_values[name]) is not _NONE]


_NONE: Any = object()
"""Stands for a block that was rightly refused."""

QUICK = settings(max_examples=60, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])


def test_arena_is_the_model() -> None:
    """No sequence of allocating, releasing and dropping tells the arena from its model."""
    run_state_machine_as_test(ArenaMachine, settings=QUICK)


class Overlapping(Arena):
    """Planted bug: hands out a run and leaves its last granule among the free ones."""

    def allocate(self, size: int, *, lasting: bool = False) -> LockedBuffer:
        buffer = super().allocate(size, lasting=lasting)
        if buffer._granules > 1:
            with self._lock:
                self._join(buffer.start + buffer._granules - 1, 1)
        return buffer


class Unjoined(Arena):
    """Planted bug: returned runs are never joined."""

    def _join(self, start: int, granules: int) -> None:
        self._blocks -= 1
        self._used -= granules
        index = sum(known < start for known in self._starts)
        self._starts.insert(index, start)
        self._lengths.insert(index, granules)


class Losing(Arena):
    """Planted bug: a run of one granule is forgotten when it comes back."""

    def _join(self, start: int, granules: int) -> None:
        if granules > 1:
            super()._join(start, granules)
        else:
            self._blocks -= 1
            self._used -= granules


class Dirty(Arena):
    """Planted bug: what comes back is not zeroed."""

    def take_back(self, start: int, granules: int) -> None:
        self._view[start * GRANULE] = 1
        super().take_back(start, granules)


@pytest.mark.parametrize("planted", [Overlapping, Unjoined, Losing, Dirty])
def test_planted_bug_is_found(planted: type[Arena]) -> None:
    """The machine finds each bug that it is there to exclude."""
    machine = type(planted.__name__, (ArenaMachine,), {"arena_type": planted, "teardown": _close_only})
    quick = settings(QUICK, max_examples=300, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises((AssertionError, ResourceExhaustedError, TooLargeError)):
        run_state_machine_as_test(machine, settings=quick)


def _close_only(machine: ArenaMachine) -> None:
    """Leave nothing behind where the arena cannot be trusted to."""
    for buffer in machine.bundles_left():
        buffer.release()
    wipe(machine.arena._view)
    machine.arena.close()
