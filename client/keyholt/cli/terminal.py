"""The terminal of whoever runs the command: a question, and what is typed, unseen.

- It is read as it comes, not line by line: the kernel keeps 4,095 bytes of a line and drops the rest without
  a word (``N_TTY_BUF_SIZE``; termios(3), "Canonical and noncanonical mode").
- Keys and signals are awaited together, so that none is missed between a look and a wait
  (``signal.set_wakeup_fd``). Whatever ends or stops the process finds the terminal as it was before; after a
  stop the typing is hidden again, and the question is asked anew.
- It is ``/dev/tty``, so that standard input stays free for a value.
"""

from __future__ import annotations

import os
import select
import signal
import termios
from collections.abc import Callable
from typing import Any, Final

from keyholt.cli.descriptors import write_all
from keyholt.cli.errors import UsageError
from keyholt.cli.line_editor import LineEditor
from keyholt.cli.output import printable
from keyholt_protocol.errors import InvalidRequestError

__all__ = ["Terminal", "ask", "ask_lines"]

TERMINAL: Final = "/dev/tty"
CHUNK: Final = 4096
"""Bytes that are read at once: what the kernel's buffer of a terminal holds."""

_IFLAG, _LFLAG, _CC = 0, 3, 6
"""Where tcgetattr(3) has the input modes, the local modes and the keys."""

_CHANGED_INPUT: Final = termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.IXON | termios.IXOFF
"""What would change a byte that was typed, or keep Ctrl-S and Ctrl-Q."""

_EDITED: Final = termios.ICANON | termios.ECHO | termios.ECHONL | termios.IEXTEN

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NOTED: Final = (*_ENDING, signal.SIGINT, signal.SIGTSTP, signal.SIGCONT)

_Modes = list[Any]


def ask(
    question: str,
    limit: int,
    *,
    instead: str,
    twice: bool = False,
    check: Callable[[bytearray], None] | None = None,
) -> bytearray:
    """One line, typed unseen; the caller's to wipe.

    Args:
        question: what to ask for.
        limit: bytes; what is longer comes with one byte more, and is the caller's to refuse.
        instead: how else to give it, said where there is no terminal.
        twice: ask again, and refuse two that differ.
        check: raises what is wrong with the first answer, before the second is asked for.

    Raises:
        CancelledError: with Ctrl-D.
        UsageError: there is no terminal, or more than a line was pasted.
        InvalidRequestError: the two differ.
    """
    with Terminal(instead) as terminal:
        answer = terminal.read_line(f"{question}: ", limit)
        try:
            if check is not None:
                check(answer)
            if twice:
                again = terminal.read_line(f"{question} again: ", limit)
                same = again == answer
                again[:] = bytes(len(again))
                if not same:
                    raise InvalidRequestError("the two that were typed differ; begin again")
            if terminal.has_more():
                raise UsageError(f"more than one line was pasted, and none of it was taken; {instead}")
        except BaseException:
            answer[:] = bytes(len(answer))
            raise
        return answer


def ask_lines(question: str, limit: int, *, instead: str) -> bytearray:
    """A text of many lines, typed unseen up to Ctrl-D, line ends and all; the caller's to wipe.

    Raises:
        CancelledError: nothing was typed before the Ctrl-D.
        UsageError: there is no terminal, more was pasted behind a Ctrl-D, or more than ``limit`` bytes.
    """
    with Terminal(instead) as terminal:
        text = terminal.read_lines(f"{question}, ended by Ctrl-D:\n", limit)
        more = "was pasted behind a Ctrl-D" if terminal.has_more() else ""
        if len(text) > limit:
            more = f"than {limit} bytes were typed"
        if more:
            text[:] = bytes(len(text))
            raise UsageError(f"more {more}, and none of it was taken; {instead}")
        lines = text.count(b"\n") + (not text.endswith(b"\n"))
        terminal.show(f"({'1 line' if lines == 1 else f'{lines} lines'}, {len(text)} bytes)\n")
        return text


class Terminal:
    """The terminal, its typing hidden for the length of a ``with``.

    Args:
        instead: how else to give what is asked for, said where there is no terminal.

    Raises:
        UsageError: there is none.
    """

    def __init__(self, instead: str) -> None:
        try:
            self._terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            raise UsageError(f"there is no terminal to ask on; {instead}") from None
        try:
            self._before: _Modes = _modes(self._terminal)
        except OSError:
            os.close(self._terminal)
            raise
        self._hidden: _Modes = _hide(self._before)
        self._ahead = bytearray()
        """What was read and not yet taken."""
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Terminal:
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in _NOTED:
            # One that is ignored, as SIGHUP under nohup, stays so.
            if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
                self._handlers[number] = signal.signal(number, _note)
        signal.set_wakeup_fd(self._waker)
        try:
            self._set_hidden(termios.TCSADRAIN)
            if self.has_more():  # it was echoed, and the kernel may have cut it
                termios.tcflush(self._terminal, termios.TCIFLUSH)
                self.show("(what was typed before this question is dropped)\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead[:] = bytes(len(self._ahead))
        self._give_back()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        late = self._noted()
        for descriptor in (self._terminal, self._woken, self._waker):
            os.close(descriptor)
        for number in late:
            if number != signal.SIGCONT:
                os.kill(os.getpid(), number)  # the handlers are back, and it is theirs now

    def show(self, text: str) -> None:
        """Write to the terminal; what steers one is written out."""
        write_all(self._terminal, "\n".join(map(printable, text.split("\n"))).encode())

    def read_line(self, question: str, limit: int) -> bytearray:
        """Ask for one line."""
        return self._read(question, self._editor(limit, many_lines=False))

    def read_lines(self, question: str, limit: int) -> bytearray:
        """Ask for a text that Ctrl-D ends."""
        return self._read(question, self._editor(limit, many_lines=True))

    def has_more(self) -> bool:
        """Whether anything was typed that was not yet taken."""
        return bool(self._ahead) or bool(select.select([self._terminal], [], [], 0)[0])

    def _editor(self, limit: int, *, many_lines: bool) -> LineEditor:
        erase, kill = (self._before[_CC][key].strip(b"\0") for key in (termios.VERASE, termios.VKILL))
        return LineEditor(limit, many_lines=many_lines, erase=erase, kill=kill)

    def _read(self, question: str, editor: LineEditor) -> bytearray:
        self.show(question)
        try:
            while not self._press(editor):
                self._await_keys(question, editor)
            return editor.take()
        except BaseException:
            editor.wipe()
            raise
        finally:
            if not question.endswith("\n"):
                self.show("\n")

    def _press(self, editor: LineEditor) -> bool:
        """Hand over what was read, up to the end of the text."""
        try:
            for at, key in enumerate(self._ahead, 1):
                if editor.press(key):
                    rest = bytearray(memoryview(self._ahead)[at:])
                    self._ahead[:] = bytes(len(self._ahead))
                    self._ahead = rest
                    return True
        except BaseException:
            self._ahead[:] = bytes(len(self._ahead))
            raise
        self._ahead[:] = bytes(len(self._ahead))
        self._ahead = bytearray()
        return False

    def _await_keys(self, question: str, editor: LineEditor) -> None:
        poller = select.poll()
        for descriptor in (self._terminal, self._woken):
            poller.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll()}
        for number in self._noted():
            self._act_on(number, question, editor)
        if self._terminal in ready:
            chunk = bytearray(CHUNK)
            size = os.readv(self._terminal, [chunk])
            if size == 0:
                raise OSError("the terminal is gone")
            self._ahead = bytearray(memoryview(chunk)[:size])
            chunk[:] = bytes(size).ljust(CHUNK, b"\0")

    def _noted(self) -> bytes:
        """The numbers of the signals that have come."""
        try:
            return os.read(self._woken, CHUNK)
        except BlockingIOError:
            return b""

    def _act_on(self, number: int, question: str, editor: LineEditor) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number in _ENDING or number == signal.SIGTSTP:
            self._give_back()
            self._suffer(number)  # no further than here, unless it is a stop
        self._hide_again()
        if len(editor):
            editor.wipe()
            self.show("\n(what was typed is dropped; begin again)")
        self.show(f"\n{question}")

    def _suffer(self, number: int) -> None:
        """Have a signal do what it does to a program that takes no notice of it."""
        for defaulted in (number, signal.SIGCONT):
            signal.signal(defaulted, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        for defaulted in (number, signal.SIGCONT):
            signal.signal(defaulted, _note)

    def _give_back(self) -> None:
        try:
            if os.tcgetpgrp(self._terminal) != os.getpgrp():
                return  # from the background it is not ours to change, and the attempt would stop us
            # Flushed: what was typed beyond is not for the shell to read, and to echo.
            termios.tcsetattr(self._terminal, termios.TCSAFLUSH, self._before)
        except (OSError, termios.error):
            pass  # it is gone, as after SIGHUP

    def _hide_again(self) -> None:
        """After a stop: whoever had the terminal meanwhile may have left it in other modes."""
        while True:
            # What came with the stop's end, as `kill` of a shell sends it, is first: in the background the
            # next lines stop us again.
            for number in self._noted():
                if number == signal.SIGINT:
                    raise KeyboardInterrupt
                if number in _ENDING:
                    self._suffer(number)
            found = _modes(self._terminal)
            if found != self._hidden:
                self._before, self._hidden = found, _hide(found)
            try:
                self._set_hidden(termios.TCSAFLUSH)
                return
            except InterruptedError:
                continue  # it was stopped again in there, and there are signals to look at

    def _set_hidden(self, when: int) -> None:
        try:
            termios.tcsetattr(self._terminal, when, self._hidden)
        except termios.error as error:
            raise _as_os_error(error) from None


def _modes(terminal: int) -> _Modes:
    try:
        return termios.tcgetattr(terminal)
    except termios.error as error:
        raise _as_os_error(error) from None


def _as_os_error(error: termios.error) -> OSError:
    """The same error as one that is told: the terminal is gone, mostly."""
    number, text = error.args
    return OSError(number, f"the terminal cannot be used: {text}")


def _hide(modes: _Modes) -> _Modes:
    """The modes in which typing is not shown and each byte comes as it was typed. Keys still send signals."""
    hidden: _Modes = [*modes[:_CC], list(modes[_CC])]
    hidden[_IFLAG] = hidden[_IFLAG] & ~_CHANGED_INPUT | termios.ICRNL
    hidden[_LFLAG] = hidden[_LFLAG] & ~_EDITED | termios.ISIG
    hidden[_CC][termios.VMIN], hidden[_CC][termios.VTIME] = 1, 0
    return hidden


def _note(_number: int, _frame: object) -> None:
    """A signal's handler: its number is in the pipe already."""
