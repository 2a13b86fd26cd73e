"""References: ``keyholt://PATH[?version=N]``, a text that stands for a secret's value.

- A path cannot hold ``?`` or ``#``, so a reference needs no escapes: what stands between is the path as it
  is.
- `keyholt run` goes through here: nothing is imported until there is something to complain about.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["SCHEME", "is_reference", "parse", "write"]

SCHEME: Final = "keyholt://"
IN_BRACES: Final = rb"\{\{[ \t]*(keyholt://[^{}\r\n]*?)[ \t]*\}\}"
"""The regular expression of a reference in a text that may have any path."""

IN_TEXT: Final = rb"(keyholt://[A-Za-z0-9._~@+/-]+(?:[?#][A-Za-z0-9_=&?#%]*)?)"
"""The regular expression of a bare one in a text. What follows a ``?`` or ``#`` belongs to it, so that
one that is not well formed is refused, instead of half of it being left behind the value."""

MAX_DIGITS: Final = 10
"""Digits of the highest version there is; a longer number is no version, and is not converted."""


def is_reference(text: str) -> bool:
    """Whether the text, as a whole, is meant to be a reference; ``parse`` says whether it is well formed."""
    return text.startswith(SCHEME)


def parse(text: str) -> tuple[str, int | None]:
    """The path and the version that a reference names; the agent judges the path.

    Raises:
        InvalidRequestError: it is not well formed.
    """
    path, mark, query = text.removeprefix(SCHEME).partition("?")
    key, _, number = query.partition("=")
    digits = number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS
    if not is_reference(text) or not path or "#" in text or (mark and not (key == "version" and digits)):
        from keyholt_protocol.errors import InvalidRequestError

        raise InvalidRequestError("a reference is written keyholt://PATH or keyholt://PATH?version=N")
    return path, int(number) if mark else None


def write(path: str, version: int | None = None) -> str:
    """The reference to a secret, or to one of its versions."""
    return f"{SCHEME}{path}" if version is None else f"{SCHEME}{path}?version={version}"
