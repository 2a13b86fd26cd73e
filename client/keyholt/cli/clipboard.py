"""The clipboard, for `get --clip`: by the program that this desktop has for it.

- Wayland's ``wl-copy``, X11's ``xclip`` or ``xsel``. Not the terminal's own sequence (OSC 52): a terminal
  does not say whether it took it, nor what it holds later, so nothing could be cleared with care.
- The value goes to the program's standard input, never into its arguments.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

from keyholt.cli import clearing
from keyholt.cli.descriptors import write_all
from keyholt.cli.errors import ClipboardError

__all__ = ["Clipboard", "copy", "find_clipboard"]

PATIENCE: Final = 10
"""Seconds for the program to take the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipboard:
    """Commands that take a value, give what is held, and clear it; ``display`` is the variable they go by."""

    display: str
    copy: tuple[str, ...]
    paste: tuple[str, ...]
    clear: tuple[str, ...]


KNOWN: Final = (
    Clipboard(
        display="WAYLAND_DISPLAY",
        copy=("wl-copy",),
        paste=("wl-paste", "--no-newline"),
        clear=("wl-copy", "--clear"),
    ),
    Clipboard(
        display="DISPLAY",
        copy=("xclip", "-selection", "clipboard", "-in"),
        paste=("xclip", "-selection", "clipboard", "-out"),
        clear=("xclip", "-selection", "clipboard", "-in"),
    ),
    Clipboard(
        display="DISPLAY",
        copy=("xsel", "--clipboard", "--input"),
        paste=("xsel", "--clipboard", "--output"),
        clear=("xsel", "--clipboard", "--clear"),
    ),
)


def find_clipboard() -> Clipboard:
    """The first whose display and program are there.

    Raises:
        ClipboardError: none is.
    """
    for known in KNOWN:
        if os.environ.get(known.display) and shutil.which(known.copy[0]):
            return known
    if not any(os.environ.get(known.display) for known in KNOWN):
        raise ClipboardError("there is no desktop here: neither WAYLAND_DISPLAY nor DISPLAY is set")
    raise ClipboardError("no program for the clipboard is installed: install wl-clipboard, xclip or xsel")


def copy(value: memoryview, clipboard: Clipboard, seconds: int) -> None:
    """Put a value on the clipboard, from where it is cleared after so many seconds.

    Raises:
        ClipboardError: the clipboard's program did not take it.
    """
    program = clipboard.copy[0]
    # It stays, to give the value out to whoever pastes: its outputs are nobody's to wait for.
    taking = subprocess.Popen(
        clipboard.copy, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert taking.stdin is not None  # noqa: S101  # as asked for
    try:
        write_all(taking.stdin.fileno(), value)
    except BrokenPipeError:
        pass  # its status says more
    taking.stdin.close()
    try:
        status = taking.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        taking.kill()
        taking.wait()
        raise ClipboardError(f"{program} did not take the value within {PATIENCE} seconds") from None
    if status != 0:
        raise ClipboardError(f"{program} did not take the value; see that ${clipboard.display} is right")
    _clear_later(value, clipboard, seconds)


def _clear_later(value: memoryview, clipboard: Clipboard, seconds: int) -> None:
    key = secrets.token_bytes(clearing.DIGEST_SIZE)
    task = {
        "seconds": seconds,
        "key": key.hex(),
        "digest": clearing.digest_of(value, key).hex(),
        "paste": clipboard.paste,
        "clear": clipboard.clear,
    }
    # Isolated, as this program is, and in a session of its own, which outlives the terminal.
    waiting = subprocess.Popen(
        [sys.executable, "-I", "-S", clearing.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    assert waiting.stdin is not None  # noqa: S101  # as asked for
    waiting.stdin.write(json.dumps(task).encode())
    waiting.stdin.close()
    waiting.returncode = 0  # it is left to itself: nobody waits for it
