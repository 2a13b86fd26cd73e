"""The arena: one stretch of locked memory, handed out in blocks.

What must hold (``tests/agent/memory/test_arena_machine.py`` proves it against a model):

- Blocks never overlap, and lie within the arena.
- A block is all zeroes when it is handed out, and zeroed when it comes back, however it comes back.
- Free runs that touch are joined, so all space returns when all blocks have.
- The lowest run that fits is taken, and for small blocks one of the same length that came back lately: pages
  that were never needed are never touched, and cost nothing.
- Any thread may allocate and release. A block that is dropped without ``release`` is zeroed, comes back
  and warns ``ResourceWarning``: it is a bug, not a leak.

It does not lock pages (``backing``), and gives no block that outgrows or outlives the arena. A memoryview
sliced from ``LockedBuffer.view`` is the caller's to drop before ``release``: it would see the next block.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Final

from keyholt_agent.memory.backing import (
    PAGE,
    Backend,
    BackendChoice,
    Backing,
    LockedMemoryError,
    memlock_limit,
    open_backing,
)
from keyholt_agent.memory.guard import Guarded, Owner, wipe
from keyholt_protocol.errors import ResourceExhaustedError, TooLargeError

__all__ = ["Arena", "ArenaUsage", "LockedBuffer", "MemorySettings"]

DEFAULT_SIZE: Final = 32 * 1024 * 1024
"""Bytes. One payload of the largest size and much beside it; pages that are not used are not resident."""

MINIMUM_SIZE: Final = 1024 * 1024
"""Bytes. With less, hardly any value would fit, so the agent refuses to start."""

LIMIT_MARGIN: Final = 64 * 1024
"""Bytes of RLIMIT_MEMLOCK left alone by the automatic size, for locks that libraries take."""

_GRANULE_BITS: Final = 6
_GRANULE: Final = 1 << _GRANULE_BITS
"""Bytes. What blocks are rounded up to: a cache line, so that no two blocks share one."""

RESERVED_SHARE: Final = 8
LEAVES: Final = 512
"""Where less than an eighth of the arena would stay free, a block has to leave 512 times its own size. So the
last eighth shrinks by a five-hundredth at a time: however many values are announced on however many
connections, small blocks, and those are nearly all, still find room."""

_SPARE_GRANULES: Final = 16
"""Granules (1 KiB) up to which blocks that came back are kept apart from the free runs, by their length, for
the next of that length: taking one costs a third, and nearly all values are that small."""

_SPARES: Final = 16
"""Blocks of each length that are kept apart; answers that leave at once need one."""

_RAISE: Final = "raise RLIMIT_MEMLOCK (`LimitMEMLOCK=` in the unit, `ulimit -l`) and `[memory] size`"

_SMALL: Final = 4096
"""Bytes up to which zeroing from a fresh ``bytes`` is faster than ``wipe``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """The ``[memory]`` section.

    Attributes:
        backend: the kind of locked memory; ``auto`` takes the best one there is.
        size: bytes of the arena; None for ``DEFAULT_SIZE``, or what RLIMIT_MEMLOCK leaves of it.
    """

    backend: BackendChoice = "auto"
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaUsage:
    """How full the arena is: ``size``, ``used`` and ``peak`` in bytes, ``blocks`` handed out."""

    backend: Backend
    size: int
    used: int
    peak: int
    blocks: int


class LockedBuffer(Owner):
    """One block of the arena; zeroed and returned by ``release`` or at the end of a ``with``.

    Attributes:
        start: where it begins in the arena, in granules.
        view: exactly the bytes asked for, writable; raises ``ValueError`` once released.
    """

    __slots__ = ("_arena", "_granules", "start", "view")

    view: memoryview

    def __init__(self, arena: Arena, start: int, granules: int, view: memoryview) -> None:
        self._arena: Arena | None = arena
        self.start = start
        self._granules = granules
        self.view = view

    @property
    def address(self) -> int:
        """Of the first byte, for system calls and C libraries; ``ValueError`` once released."""
        if self._arena is None:
            raise ValueError("the LockedBuffer was released")
        return self._arena.address + (self.start << _GRANULE_BITS)

    def release(self) -> None:
        """Zero the block and return it to the arena; again is harmless.

        Raises:
            BufferError: C code still holds the view. The block is zeroed and stays out of use.
        """
        arena = self._arena
        if arena is not None:
            view = self.view
            size = len(view)
            if size <= _SMALL:
                view[:] = bytes(size)
            else:
                wipe(view)
            view.release()
            self._arena = None
            arena.take_back(self.start, self._granules)

    def __len__(self) -> int:
        return len(self.view)

    def __repr__(self) -> str:
        return "<LockedBuffer released>" if self._arena is None else f"<LockedBuffer {len(self.view)} bytes>"

    def __del__(self) -> None:
        arena = self._arena
        if arena is not None:
            # The collector may run this in the middle of an allocation, so it takes no lock: the block
            # is noted, and the next allocation takes it back.
            wipe(self.view)
            arena.abandoned.append((self.start, self._granules))
            warnings.warn("a LockedBuffer was dropped without release()", ResourceWarning, stacklevel=2)


class Arena(Guarded):
    """A first-fit allocator with joining of free runs over one backing. See the module for its rules.

    Attributes:
        address: of its first byte.
        size: bytes in all.
    """

    def __init__(self, backing: Backing) -> None:
        self._backend: Final = backing.backend
        self.address: Final = backing.address
        self._view: Final = backing.view
        self.size: Final = len(backing.view)
        self._total: Final = self.size >> _GRANULE_BITS
        self._lock: Final = Lock()
        # Free runs by rising start, and the length of each; both counted in granules. Two runs never touch.
        self._starts: Final = [0]
        self._lengths: Final = [self._total]
        # None in an arena that is smaller than any agent's.
        self._reserve: Final = self._total // RESERVED_SHARE if len(backing.view) >= MINIMUM_SIZE else 0
        # Starts of small blocks that came back, by their length in granules; counted as used.
        self._spare: Final[list[list[int]]] = [[] for _ in range(_SPARE_GRANULES + 1)]
        self._used = 0
        self._peak = 0
        self._blocks = 0
        # The end of the highest block that was ever handed out, in granules: beyond it nothing was written.
        self._reached = 0
        self._closed = False
        # Blocks that stay for long, by their start, with their length; both counted in granules.
        self._lasting: Final[dict[int, int]] = {}
        self.abandoned: Final[deque[tuple[int, int]]] = deque()

    @classmethod
    def open(cls, settings: MemorySettings) -> Arena:
        """Lock memory as the settings say.

        Raises:
            LockedMemoryError: it cannot be had; the message names the limit and the remedy.
        """
        if settings.size is not None:
            _require_minimum(settings.size)
            return cls(open_backing(settings.backend, settings.size))
        try:
            # The kernel decides, and not a reading of limits and capabilities, whether this fits.
            return cls(open_backing(settings.backend, DEFAULT_SIZE))
        except LockedMemoryError:
            limit = memlock_limit()
            if limit is None or not MINIMUM_SIZE + LIMIT_MARGIN <= limit < DEFAULT_SIZE + LIMIT_MARGIN:
                return cls(open_backing(settings.backend, MINIMUM_SIZE))
        return cls(open_backing(settings.backend, (limit - LIMIT_MARGIN) // PAGE * PAGE))

    @property
    def usage(self) -> ArenaUsage:
        """How full the arena is now."""
        with self._lock:
            self._reclaim()
            return ArenaUsage(
                backend=self._backend,
                size=self.size,
                used=(self._used - self._in_spares()) << _GRANULE_BITS,
                peak=self._peak << _GRANULE_BITS,
                blocks=self._blocks - sum(len(starts) for starts in self._spare),
            )

    def allocate(self, size: int, *, lasting: bool = False) -> LockedBuffer:
        """A zeroed block of ``size`` bytes (0 allowed), the caller's to release.

        Args:
            lasting: whether it stays for long, so that nobody can wait for its place.

        Raises:
            ResourceExhaustedError: no free run is long enough now; the message says which limit to raise.
            TooLargeError: nor will any ever be, whatever is released; likewise.
        """
        if size < 0:
            raise ValueError("a block cannot have a negative size")
        granules = (size + _GRANULE - 1) >> _GRANULE_BITS or 1
        if granules <= _SPARE_GRANULES and self._spare[granules] and not lasting:
            try:
                start = self._spare[granules].pop()
            except IndexError:  # another thread was faster
                pass
            else:
                offset = start << _GRANULE_BITS
                return LockedBuffer(self, start, granules, self._view[offset : offset + size])
        buffer = self._allocate_from_runs(granules, size)
        if lasting:
            self._lasting[buffer.start] = granules
        return buffer

    def take_back(self, start: int, granules: int) -> None:
        """Return a zeroed run to the free ones; ``LockedBuffer.release`` calls this, nobody else."""
        if (
            granules <= _SPARE_GRANULES
            and len(self._spare[granules]) < _SPARES
            and start not in self._lasting
        ):
            self._spare[granules].append(start)
            return
        with self._lock:
            self._join(start, granules)

    def close(self) -> None:
        """Zero all that was ever handed out, and let go of the pages, which are unmapped with the last view.

        The rest is as the kernel made it. Zeroing it would make it resident first, at 150 ms for 32 MiB of
        secret memory. Closing again is harmless.
        """
        if not self._closed:
            self._closed = True
            wipe(self._view[: self._reached << _GRANULE_BITS])
            self._view.release()

    def __repr__(self) -> str:
        return f"<Arena {self._backend} {self.size} bytes>"

    def _allocate_from_runs(self, granules: int, size: int) -> LockedBuffer:
        with self._lock:
            if self.abandoned:
                self._reclaim()
            left = self._total - self._used - granules
            if left < self._reserve and left + self._in_spares() < min(granules * LEAVES, self._reserve):
                raise self._exhausted(size)
            lengths = self._lengths
            index = self._first_fit(granules)
            if index is None:
                raise self._exhausted(size)
            length = lengths[index]
            start = self._starts[index]
            if length == granules:
                del self._starts[index], lengths[index]
            else:
                self._starts[index] = start + granules
                lengths[index] = length - granules
            self._blocks += 1
            used = self._used = self._used + granules
            if used > self._peak:  # noqa: PLR1730 (a call of max() costs more than the rest of this line)
                self._peak = used
            if start + granules > self._reached:  # noqa: PLR1730 (as above)
                self._reached = start + granules
        offset = start << _GRANULE_BITS
        return LockedBuffer(self, start, granules, self._view[offset : offset + size])

    def _in_spares(self) -> int:
        """Granules of the blocks that are kept apart."""
        return sum(granules * len(starts) for granules, starts in enumerate(self._spare))

    def _first_fit(self, granules: int) -> int | None:
        """The index of the lowest free run that is long enough; spare blocks are joined if there is none."""
        for index, length in enumerate(self._lengths):
            if length >= granules:
                return index
        if not any(self._spare):
            return None
        for spare, starts in enumerate(self._spare):
            while starts:
                self._join(starts.pop(), spare)
        return self._first_fit(granules)

    def _join(self, start: int, granules: int) -> None:
        starts, lengths = self._starts, self._lengths
        self._blocks -= 1
        self._used -= granules
        self._lasting.pop(start, None)
        index = bisect_left(starts, start)
        if index < len(starts) and starts[index] == start + granules:
            granules += lengths[index]
            del starts[index], lengths[index]
        if index and starts[index - 1] + lengths[index - 1] == start:
            lengths[index - 1] += granules
        else:
            starts.insert(index, start)
            lengths.insert(index, granules)

    def _reclaim(self) -> None:
        while self.abandoned:
            self._join(*self.abandoned.popleft())

    def _most(self) -> int:
        """Bytes of the largest block there can be once all are released but those that stay."""
        end = most = 0
        for start, granules in (*sorted(self._lasting.items()), (self._total, 0)):
            most = max(most, start - end)
            end = start + granules
        rest = self._total - sum(self._lasting.values()) - self._reserve
        return max(0, min(most, rest)) << _GRANULE_BITS

    def _exhausted(self, size: int) -> ResourceExhaustedError | TooLargeError:
        if size > (most := self._most()):
            return TooLargeError(
                f"{size} bytes never fit the locked memory of the agent, which takes {most} in one piece at "
                f"most: {_RAISE}",
                details={"field": "payload", "limit": most},
            )
        kept = min(self._reserve, (size * LEAVES) >> _GRANULE_BITS)
        free = max(0, self._total - self._used + self._in_spares() - kept) << _GRANULE_BITS
        largest = min(free, max(self._lengths, default=0) << _GRANULE_BITS)
        return ResourceExhaustedError(
            f"no locked memory for {size} bytes: {free} of {self.size} are free for it, "
            f"{largest} in one piece; try again, or {_RAISE}"
        )


def _require_minimum(size: int) -> None:
    if size < MINIMUM_SIZE:
        raise LockedMemoryError(
            f"`[memory] size` is {size} bytes, less than the {MINIMUM_SIZE} bytes that the agent needs; "
            f"raise it, or leave it out"
        )
