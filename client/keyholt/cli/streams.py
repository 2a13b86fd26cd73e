"""The output of a command on its way through here, masked: `keyholt run --mask`.

- A stream comes from the command through a pipe or, where ours is a terminal, through a pseudo-terminal.
- Where both of our outputs are the same file, they are one stream, and what comes on it keeps its order.
- Where nobody reads ours any more, the command's way ends too, and it hears of it as it would without us.
"""

from __future__ import annotations

import fcntl
import os
import select
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from keyholt.cli.descriptors import STDERR, STDOUT, write_all
from keyholt.cli.masking import Mask

__all__ = ["PAUSE", "Stream", "Streams", "copy_size", "open_stream", "our_outputs"]

PIPE_SIZE: Final = 1024 * 1024
"""Bytes: what an unprivileged process may ask for. Fewer and larger pieces take less of our time."""

PAUSE: Final = 20
"""Milliseconds without output after which a byte or two of what is held back is shown on a terminal."""

_OFLAG: Final = 1
"""Where tcgetattr(3) has the modes of output."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One way.

    Attributes:
        source: our end of it.
        inner: the command's, closed here once the command has it.
        targets: what the command knows it as; what comes goes to our own first of these.
        mask: what it passes through.
        terminal: whether it is a pseudo-terminal.
    """

    source: int
    inner: int
    targets: tuple[int, ...]
    mask: Mask
    terminal: bool


def our_outputs() -> list[tuple[int, ...]]:
    """Our descriptors for output, those that are the same file together."""
    try:
        errors = os.fstat(STDERR)
    except OSError:  # it is closed
        return [(STDOUT,)]
    return [(STDOUT, STDERR)] if os.path.samestat(os.fstat(STDOUT), errors) else [(STDOUT,), (STDERR,)]


def open_stream(targets: tuple[int, ...], needles: list[bytearray]) -> Stream:
    """A way to one of our outputs, of the kind that the output is.

    Raises:
        OSError: there are no descriptors to be had.
    """
    target = targets[0]
    terminal = os.isatty(target)
    if terminal:
        source, inner = os.openpty()
        modes = termios.tcgetattr(inner)
        modes[_OFLAG] &= ~termios.OPOST  # our terminal does that
        termios.tcsetattr(inner, termios.TCSANOW, modes)
        copy_size(target, source)
    else:
        source, inner = os.pipe()
        try:
            fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # slower, no worse
    return Stream(source, inner, targets, Mask(needles, lambda data: write_all(target, data)), terminal)


def copy_size(outer: int, inner: int) -> None:
    """Give a pseudo-terminal the size of the terminal that it stands for; its foreground hears of it."""
    empty = bytes(8)  # four shorts: rows, columns, and both in pixels (ioctl_tty(2))
    fcntl.ioctl(inner, termios.TIOCSWINSZ, fcntl.ioctl(outer, termios.TIOCGWINSZ, empty))


class Streams:
    """Those that have not ended."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._open = {stream.source: stream for stream in streams}

    def __contains__(self, source: int) -> bool:
        return source in self._open

    def __len__(self) -> int:
        return len(self._open)

    def watch(self, poll: select.poll) -> None:
        """Have all of them waited for."""
        for source in self._open:
            poll.register(source, select.POLLIN)

    @property
    def patience(self) -> int | None:
        """Milliseconds to wait before ``settle``; for ever where there is nothing to be shown."""
        waiting = any(stream.terminal and stream.mask.holds for stream in self._open.values())
        return PAUSE if waiting else None

    def settle(self) -> None:
        """Nothing has come for a moment: show a little of what is held back, on terminals."""
        for stream in list(self._open.values()):
            if stream.terminal:
                self._writing(stream, stream.mask.settle)

    def pass_on(self, source: int) -> None:
        """What has come on a stream, or that it has ended."""
        stream = self._open[source]
        try:
            size = os.readv(source, [stream.mask.room])
        except OSError:  # EIO: nobody has the other end of a pseudo-terminal open any more
            size = 0
        if size:
            self._writing(stream, lambda: stream.mask.took(size))
        else:
            self._end(stream)

    def drain(self) -> None:
        """What is there by now on all of them, and no more; they have ended then."""
        for source, stream in list(self._open.items()):
            poll = select.poll()
            poll.register(source, select.POLLIN)
            while source in self._open and poll.poll(0):
                self.pass_on(source)
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        if stream.source in self._open:
            self._writing(stream, stream.mask.finish)
            self._close(stream)

    def _writing(self, stream: Stream, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError:  # nobody reads any more
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        if self._open.pop(stream.source, None):
            os.close(stream.source)
