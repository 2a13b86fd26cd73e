"""An environment file with references in the place of values, and all else of it as it was.

- Comments, empty lines, ``export``, and what is not imported stay. A comment that holds a variable, as one
  that was taken out of use, is left out: it may hold a value.
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
_VARIABLE_IN_COMMENT: Final = re.compile(rb"[ \t]*#+[ \t]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*[ \t]*=")


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
    """The file with the values of these variables replaced, and how many comments were left out.

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
    """What stands between two values without its comments that hold a variable, and how many these are."""
    lines = bytes(between).split(b"\n")
    kept = [line for line in lines[1:] if not _VARIABLE_IN_COMMENT.match(line)]
    left_out = len(lines) - 1 - len(kept)
    if _VARIABLE_IN_COMMENT.match(lines[0]):  # behind a value: the line stays
        return b"\n".join([b"", *kept]), left_out + 1
    return b"\n".join([lines[0], *kept]), left_out
