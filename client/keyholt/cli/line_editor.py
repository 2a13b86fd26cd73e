"""What is typed at a prompt, key by key: a line editor that shows nothing.

- Backspace takes a character away, Ctrl-W a word, Ctrl-U the line. Enter ends a line, Ctrl-D a text of many
  lines. Ctrl-D at a prompt for one line cancels: it is no empty answer.
- Everything else is taken as it is, controls too: nothing that was pasted is left out.
- It stands in one buffer, which is wiped where it grows and is the caller's to wipe in the end.
- No terminal is touched here; ``keyholt.cli.terminal`` has it.
"""

from __future__ import annotations

from typing import Final

from keyholt.cli.errors import CancelledError

__all__ = ["LineEditor"]

ENTER: Final = b"\r\n"
END: Final = 0x04
"""Ctrl-D."""

ERASE: Final = b"\x7f\x08"
KILL_WORD: Final = 0x17
KILL_LINE: Final = 0x15

_NEWLINE: Final = 0x0A
_BLANKS: Final = b" \t"
_CONTINUES: Final = range(0x80, 0xC0)
"""Bytes of a character in UTF-8 after its first (RFC 3629, section 3)."""


class LineEditor:
    """Takes keys until the text is whole.

    Args:
        limit: bytes that are kept, and one more: what is longer is refused by whoever takes it.
        many_lines: Enter is part of the text, and Ctrl-D ends it.
        erase, kill: keys that this terminal has for taking away a character and the line, beside the usual.
    """

    def __init__(
        self, limit: int, *, many_lines: bool = False, erase: bytes = b"", kill: bytes = b""
    ) -> None:
        self._limit = limit
        self._many_lines = many_lines
        self._erase = ERASE + erase
        self._kill = bytes((KILL_LINE,)) + kill
        self._buffer = bytearray(min(1024, limit + 1))
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    def press(self, key: int) -> bool:
        """Take one byte; gives whether the text is whole.

        Raises:
            CancelledError: it is Ctrl-D, and there is nothing to end with it.
        """
        if key in ENTER and not self._many_lines:
            return True
        if key == END:
            if not self._many_lines or not self._filled:
                raise CancelledError
            return True
        if key in self._erase:
            self._take_character()
        elif key in self._kill:
            self._shorten(self._line_start())
        elif key == KILL_WORD:
            self._take_word()
        else:
            self._add(_NEWLINE if key in ENTER else key)
        return False

    def take(self) -> bytearray:
        """What was typed, the caller's to wipe; nothing is left here."""
        result = bytearray(memoryview(self._buffer)[: self._filled])
        self.wipe()
        return result

    def wipe(self) -> None:
        """Zero what was typed, and begin again."""
        self._shorten(0)

    def _add(self, byte: int) -> None:
        if self._filled == len(self._buffer):
            if self._filled > self._limit:
                return  # it is too long already, and will be refused for that
            # By hand: a bytearray that grows by itself leaves what it held where it lay before.
            larger = bytearray(min(2 * self._filled, self._limit + 1))
            larger[: self._filled] = self._buffer
            self._buffer[:] = bytes(self._filled)
            self._buffer = larger
        self._buffer[self._filled] = byte
        self._filled += 1

    def _take_character(self) -> None:
        at, start = self._filled, self._line_start()
        while at > start and self._buffer[at - 1] in _CONTINUES:
            at -= 1
        self._shorten(max(start, at - 1))

    def _take_word(self) -> None:
        at, start = self._filled, self._line_start()
        while at > start and self._buffer[at - 1] in _BLANKS:
            at -= 1
        while at > start and self._buffer[at - 1] not in _BLANKS:
            at -= 1
        self._shorten(at)

    def _line_start(self) -> int:
        return self._buffer.rfind(b"\n", 0, self._filled) + 1

    def _shorten(self, size: int) -> None:
        if size > 0 and self._filled > self._limit:
            return  # how much was dropped is not known: all that can be taken away is all of it
        self._buffer[size : self._filled] = bytes(self._filled - size)
        self._filled = size
