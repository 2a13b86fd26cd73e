"""A terminal of its own for a command whose output is masked, shown on ours.

- Ours is raw meanwhile: every key goes to the inner one, which makes of Ctrl-C, Ctrl-Z and Ctrl-D what the
  command has told it to. It has the size of ours.
- The command is a job of a small process in the session of the inner terminal, the monitor: a process whose
  parent is in another session cannot be stopped by Ctrl-Z (POSIX, orphaned process groups). When the command
  stops, so do we, and the shell that we were called from says so; when we are continued, so is it.
- In the background nothing is read from our terminal, and its modes stay as they are.
- The monitor ends after the command. What is on the inner terminal then still is hung up on, as when a
  window is closed; so is the command when we are killed, and the monitor gives our terminal its modes back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from keyholt.cli.descriptors import STDOUT, write_all
from keyholt.cli.masking import Mask, wipe
from keyholt.cli.streams import Stream, Streams, copy_size, open_stream, our_outputs
from keyholt.cli.supervising import Become, become_child, block_signals, forward_signals

__all__ = ["is_ours", "supervise_on_terminal"]

STDIN: Final = 0

TYPED: Final = 4096
"""Bytes of input taken at once: as much as a line may have (termios(3))."""

LOOK: Final = 1000
"""Milliseconds between two looks whether we are in the foreground again: no shell says so."""

STARTED, STOPPED, ENDED = b"p", b"s", b"e"
"""What the monitor tells, each with a number: the command's id, then wait statuses."""


def is_ours() -> bool:
    """Whether standard input and output are a terminal, and we are in its foreground."""
    return os.isatty(STDIN) and os.isatty(STDOUT) and _in_foreground()


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(STDIN) == os.getpgrp()
    except OSError:  # it is not the terminal of our session
        return False


def supervise_on_terminal(become: Become, needles: list[bytearray], values: Sequence[bytearray]) -> int:
    """Run a command on a terminal of its own; otherwise as ``supervise`` of ``keyholt.cli.supervising``."""
    modes = termios.tcgetattr(STDIN)
    screen = _open_screen(modes, needles)
    others = [open_stream(targets, needles) for targets in our_outputs() if STDOUT not in targets]
    streams = [screen, *others]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = block_signals()
    monitor = os.fork()
    if monitor == 0:
        ours.close()
        _monitor(become, streams, theirs, before, [*needles, *values])
    wipe(values)
    theirs.close()
    for stream in streams:
        os.close(stream.inner)
    kind, child = _told(ours)
    if kind != STARTED:
        raise OSError(errno.EAGAIN, "no process could be started; try again")
    process = os.pidfd_open(child)
    ours.send(STARTED)  # until it hears that, the monitor leaves the process its number
    forward_signals(process, streams, terminal_reaches_it=False)
    session = _Session(screen, Streams(streams), ours, modes)
    try:
        return session.run()
    finally:
        session.give_back()
        ours.close()  # which ends the monitor
        os.waitpid(monitor, 0)


def _open_screen(modes: list[Any], needles: list[bytearray]) -> Stream:
    """The inner terminal, with the modes and the size of ours."""
    source, inner = os.openpty()
    termios.tcsetattr(inner, termios.TCSANOW, modes)
    copy_size(STDIN, source)
    os.set_blocking(source, False)
    targets = next(targets for targets in our_outputs() if STDOUT in targets)
    mask = Mask(needles, lambda data: write_all(STDOUT, data))
    return Stream(source, inner, (STDIN, *targets), mask, terminal=True)


class _Session:
    """Our side: between our terminal, the inner one and the monitor."""

    def __init__(self, screen: Stream, streams: Streams, monitor: socket.socket, modes: list[Any]) -> None:
        self._screen = screen.source
        self._streams = streams
        self._monitor = monitor
        self._modes = modes
        self._raw = False
        self._input = True
        self._typed = b""

    def run(self) -> int:
        """Until the command has ended; gives its wait status."""
        while True:
            self._take()
            ready = self._wait()
            for source, events in ready.items():
                self._serve(source, events)
            if not ready:
                self._streams.settle()
            if self._monitor.fileno() in ready:
                kind, status = _told(self._monitor)
                if kind == ENDED:
                    self._streams.drain()
                    return status
                self._stop()

    def _wait(self) -> dict[int, int]:
        """What there is to do: descriptors with their events."""
        poll = select.poll()
        self._streams.watch(poll)
        poll.register(self._monitor, select.POLLIN)
        if self._typed and self._screen in self._streams:
            poll.modify(self._screen, select.POLLIN | select.POLLOUT)
        elif self._raw and self._input:
            poll.register(STDIN, select.POLLIN)
        patience = self._streams.patience
        return dict(poll.poll(LOOK if patience is None and not self._raw else patience))

    def _serve(self, source: int, events: int) -> None:
        if source == STDIN:
            self._read_input()
        elif source in self._streams:
            if events & select.POLLOUT:
                self._write_input()
            if events & ~select.POLLOUT:
                self._streams.pass_on(source)

    def _take(self) -> None:
        """Make our terminal raw, once we are in its foreground."""
        if not self._raw and _in_foreground():
            tty.setraw(STDIN, termios.TCSADRAIN)
            self._raw = True

    def give_back(self) -> None:
        """Give our terminal its modes back; in the background they are not ours to set."""
        if self._raw and _in_foreground():
            termios.tcsetattr(STDIN, termios.TCSADRAIN, self._modes)
        self._raw = False

    def _stop(self) -> None:
        """The command has stopped: stop with all of our process group, until the shell continues us."""
        self.give_back()
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        if _in_foreground():
            copy_size(STDIN, self._screen)
        self._take()
        self._monitor.send(STOPPED)

    def _read_input(self) -> None:
        try:
            self._typed = os.read(STDIN, TYPED)
        except OSError:  # our terminal is gone
            self._typed = b""
        self._input = bool(self._typed)

    def _write_input(self) -> None:
        """What has been typed, as far as there is room: what is not read must not keep output back."""
        try:
            self._typed = self._typed[os.write(self._screen, self._typed) :]
        except BlockingIOError:
            pass


def _told(monitor: socket.socket) -> tuple[bytes, int]:
    """What the monitor says; once it has gone, the command has been hung up on."""
    message = monitor.recv(64)
    return (message[:1], int(message[1:])) if message else (ENDED, int(signal.SIGHUP))


def _monitor(
    become: Become,
    streams: Sequence[Stream],
    told: socket.socket,
    signals: set[int],
    secrets: Sequence[bytearray],
) -> NoReturn:
    """The monitor: the leader of the session of the inner terminal, with the command as its job."""
    try:
        modes = termios.tcgetattr(STDIN)  # it is made raw only once we have said that the command has started
        screen = streams[0].inner
        for stream in streams:
            os.close(stream.source)
        os.setsid()
        fcntl.ioctl(screen, termios.TIOCSCTTY, 0)
        child = os.fork()
        if child == 0:
            _enter_foreground(screen)
            become_child(become, streams, signals)
        told.send(STARTED + b"%d" % child)
        for stream in streams[1:]:
            os.close(stream.inner)
        wipe(secrets)
        # When our other side is killed, the kernel hangs up on this session; that has to end us, and thereby
        # reach the command.
        signal.signal(signal.SIGHUP, lambda _number, _frame: _leave(modes))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        stopped = False
        # We are told once the command is held: one that has ended keeps its number until it is waited for.
        # Then when it is to go on; and after its end only that nobody listens any more.
        while told.recv(1):
            if stopped:
                os.killpg(child, signal.SIGCONT)
            _, status = os.waitpid(child, os.WUNTRACED)
            stopped = os.WIFSTOPPED(status)
            told.send((STOPPED if stopped else ENDED) + b"%d" % status)
    finally:
        os._exit(0)


def _leave(modes: list[Any]) -> NoReturn:
    """End the monitor; where our terminal is raw still, nobody but us is left to give it its modes back."""
    try:
        _, output, _, local, *_ = termios.tcgetattr(STDIN)
        if not (output & termios.OPOST or local & termios.ISIG):  # a shell that edits a line keeps these
            termios.tcsetattr(STDIN, termios.TCSANOW, modes)
    finally:
        os._exit(0)


def _enter_foreground(screen: int) -> None:
    """A process group of our own, in the foreground."""
    os.setpgid(0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # who is not there yet may not say so
    os.tcsetpgrp(screen, os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
