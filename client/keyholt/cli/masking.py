"""Putting a mark in the place of values in a command's output, as it passes through.

- A value is found as it is and in the spellings of ``keyholt.cli.spellings``, however the output is cut into
  pieces: what may be the beginning of one is held back until more has come. What cannot be is passed on at
  once, so that a prompt appears. A newline at a value's end need not be there.
- Of values that overlap nothing is left either; they have one mark.
- ``bytearray.find`` looks for one spelling after the other. That is many times as fast as an automaton in
  Python, and ``re`` would keep the values in memory that nothing wipes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from keyholt.cli.spellings import spellings

__all__ = ["LEAST", "MARK", "Mask", "bare_size", "needles", "wipe"]

MARK: Final = b"<masked>"

LEAST: Final = 4
"""Bytes of a value that is masked: a shorter one is found everywhere."""

SHOWN_AHEAD: Final = 2
"""Bytes that ``settle`` lets through of what may be the beginning of a value."""

CHUNK: Final = 256 * 1024
"""Bytes read at once: the more at once, the less is done in Python; more do not fit a processor's cache."""

Write = Callable[["bytes | memoryview"], None]


def needles(values: Iterable[bytearray]) -> list[bytearray]:
    """What is to be looked for, the caller's to wipe; of a value that is too short nothing is."""
    found: list[bytearray] = []
    for value in values:
        size = bare_size(value)
        bare = value[:size]
        if size >= LEAST:
            found += spellings(bare)
        wipe([bare])
    return found


def bare_size(value: bytearray) -> int:
    """The length of a value in bytes, without line ends behind it."""
    size = len(value)
    while size and value[size - 1] in b"\r\n":
        size -= 1
    return size


def wipe(buffers: Iterable[bytearray]) -> None:
    """Zero all of them."""
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))


class Mask:
    """One stream of output: read into ``room``, say so to ``took``, and in the end ``finish``.

    Args:
        needles: what is masked; they stay the caller's.
        write: is given what goes out, piece by piece; the memory is valid during the call only.
    """

    def __init__(self, needles: list[bytearray], write: Write) -> None:
        self._needles = needles
        self._write = write
        self._buffer = bytearray(CHUNK + max(map(len, needles), default=0))
        self._filled = 0
        self._out = 0  # so many of the bytes in the buffer have been written, or have a mark

    @property
    def room(self) -> memoryview:
        """Where the next bytes of the stream are to be put: never empty."""
        return memoryview(self._buffer)[self._filled :]

    @property
    def holds(self) -> bool:
        """Whether something is held back that ``settle`` would let through."""
        return self._out < min(self._filled, SHOWN_AHEAD)

    def took(self, size: int) -> None:
        """So many bytes have been put into ``room``: write all that cannot be the beginning of a value."""
        self._filled += size
        start = self._held_from()
        self._pass_on(start)
        held = self._filled - start
        self._buffer[:held] = self._buffer[start : self._filled]
        self._filled, self._out = held, self._out - start

    def settle(self) -> None:
        """Nothing more has come for a moment: let a byte or two of what is held back be seen.

        Whoever types the letter that a value begins with sees it. If more of the value comes, that is masked.
        """
        if self.holds:
            shown = min(self._filled, SHOWN_AHEAD)
            self._write(memoryview(self._buffer)[self._out : shown])
            self._out = shown

    def finish(self) -> None:
        """The stream has ended: write what was held back, and zero the memory."""
        self._pass_on(self._filled)
        self._filled = self._out = 0
        wipe([self._buffer])

    def _held_from(self) -> int:
        """Where the longest end of the buffer begins that is the beginning of a value, and not all of it."""
        buffer, filled = self._buffer, self._filled
        view = memoryview(buffer)
        held = filled
        for needle in self._needles:
            place = buffer.find(needle[:1], max(0, filled - len(needle) + 1), held)
            while place >= 0:
                if needle.startswith(view[place:filled]):
                    held = place
                    break
                place = buffer.find(needle[:1], place + 1, held)
        return held

    def _pass_on(self, start: int) -> None:
        """Write what stands before ``start``, with marks; what has been written or marked is not again."""
        view = memoryview(self._buffer)
        for begin, end in self._found():
            if begin >= start:  # it is found again when the rest has come
                break
            if end <= self._out:
                continue
            if begin > self._out:
                self._write(view[self._out : begin])
            self._write(MARK)
            self._out = end
        if self._out < start:
            self._write(view[self._out : start])
            self._out = start

    def _found(self) -> list[tuple[int, int]]:
        """From where to where values stand; those that overlap are one."""
        buffer, filled = self._buffer, self._filled
        places: list[tuple[int, int]] = []
        for needle in self._needles:
            place = buffer.find(needle, 0, filled)
            while place >= 0:
                places.append((place, place + len(needle)))
                place = buffer.find(needle, place + 1, filled)
        merged: list[tuple[int, int]] = []
        for begin, end in sorted(places):
            if merged and begin < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        return merged
