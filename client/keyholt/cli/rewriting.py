"""An environment file with references in the place of values, and all else of it as it was.

- Empty lines, ``export``, what is not imported and comments stay. A comment with ``=`` or ``:`` may hold a
  value, as a variable that was taken out of use; it is left out, and so are the comments that follow it
  without an empty line or a variable between, which may be the rest of that value.
- ``${NAME}`` in a value is refused by name, unless it is in single quotes or escaped: Docker Compose and
  python-dotenv put another variable's value there, systemd and `keyholt run` do not, so that nobody can tell
  which value is meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from keyholt.cli.envfile import EnvFileError, definitions, normal, write_variable

__all__ = ["require_plain", "rewritten"]

_EXPANDED: Final = re.compile(rb"(?<!\\)(?:\\\\)*\$\{[A-Za-z_]")
_COMMENT: Final = re.compile(rb"[ \t]*#")


def require_plain(data: bytes | bytearray | memoryview, names: set[str]) -> None:
    """Refuse values of these variables that other programs would expand.

    Raises:
        EnvFileError: names the line and the variable.
    """
    text = normal(data)
    view = memoryview(text)
    try:
        for name, value, line, begin, end in definitions(text):
            value[:] = bytes(len(value))
            if name in names and not text.startswith(b"'", begin) and _EXPANDED.search(view[begin:end]):
                raise EnvFileError(
                    line,
                    f"the value of {name} has ${{...}}, which some programs replace and some do not; "
                    "write it out, or put the value in single quotes if it is meant as it stands",
                )
    finally:
        view.release()
        text[:] = bytes(len(text))


def rewritten(data: bytes | bytearray | memoryview, references: Mapping[str, str]) -> tuple[bytes, int]:
    """The file with the values of these variables replaced, and how many lines of comment were left out.

    Args:
        references: what stands for the value, by the variable's name.

    Raises:
        EnvFileError: it is no environment file.
    """
    text = normal(data)
    parts: list[bytes] = []
    at = left_out = 0
    try:
        for name, value, _, begin, end in definitions(text):
            value[:] = bytes(len(value))
            between, count = _without_variables(text[at:begin])
            reference = references.get(name)
            parts += between, bytes(text[begin:end]) if reference is None else _written(name, reference)
            left_out += count
            at = end
        between, count = _without_variables(text[at:])
    finally:
        text[:] = bytes(len(text))
    return b"".join([*parts, between]), left_out + count


def _written(name: str, value: str) -> bytes:
    """In quotes if need be."""
    return write_variable(name, value).partition("=")[2].rstrip("\n").encode()


def _without_variables(between: bytearray) -> tuple[bytes, int]:
    """What stands between two values without comments that may hold a value, and how many lines these are."""
    kept: list[bytes] = []
    left_out = 0
    within = False
    for number, line in enumerate(bytes(between).split(b"\n")):
        is_comment = _COMMENT.match(line) is not None
        within = is_comment and (within or b"=" in line or b":" in line)
        if not within:
            kept.append(line)
        elif number == 0:  # behind a value: the line stays
            kept.append(b"")
        left_out += within
    return b"\n".join(kept), left_out
