"""References: ``keyholt://PATH[?version=N][#FIELD]``, a text that stands for a value or a part of one.

- A path cannot hold ``?`` or ``#``, so it needs no escapes: what stands between is the path as it is.
- A field is percent-encoded, as the fragment of any URI (RFC 3986, section 3.5). What it means says
  ``keyholt.field``.
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

IN_TEXT: Final = rb"(keyholt://[A-Za-z0-9._~@+/-]+(?:\?[A-Za-z0-9_=&?%]*)?(?:#[A-Za-z0-9._~@+/%#-]*)?)"
"""The regular expression of a bare one in a text. What follows a ``?`` or ``#`` belongs to it, so that
one that is not well formed is refused, instead of half of it being left behind the value."""

MAX_DIGITS: Final = 10
"""Digits of the highest version there is; a longer number is no version, and is not converted."""

_PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/@+"
"""What is written as it is in a field; ``inject`` finds the end of a bare reference by the same list."""

_HEX: Final = b"0123456789abcdefABCDEF"


def is_reference(text: str) -> bool:
    """Whether the text, as a whole, is meant to be a reference; ``parse`` says whether it is well formed."""
    return text.startswith(SCHEME)


def parse(text: str) -> tuple[str, int | None, str | None]:
    """The path, the version and the field that a reference names; the agent judges the path.

    Raises:
        InvalidRequestError: it is not well formed.
    """
    named, hash_mark, fragment = text.removeprefix(SCHEME).partition("#")
    path, mark, query = named.partition("?")
    key, _, number = query.partition("=")
    digits = number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS
    field = _decoded(fragment) if hash_mark else None
    versioned = not mark or (key == "version" and digits)
    if not is_reference(text) or not path or not versioned or (hash_mark and not field):
        from keyholt_protocol.errors import InvalidRequestError

        raise InvalidRequestError(
            "a reference is written keyholt://PATH, with ?version=N or #FIELD or both after it, in this "
            "order; in a field %25 stands for %"
        )
    return path, int(number) if mark else None, field


def write(path: str, version: int | None = None, field: str | None = None) -> str:
    """The reference to a secret, to one of its versions, or to a field of either."""
    query = "" if version is None else f"?version={version}"
    fragment = "" if field is None else f"#{_encoded(field)}"
    return f"{SCHEME}{path}{query}{fragment}"


def _encoded(field: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in field.encode())


def _decoded(fragment: str) -> str | None:
    """The field that a fragment writes; ``None`` if it writes none."""
    try:
        data, *escaped = fragment.encode().split(b"%")
        for part in escaped:
            digits = part[:2]
            if len(digits) != len("FF") or digits.strip(_HEX):
                return None
            data += bytes((int(digits, 16),)) + part[2:]
        return data.decode()
    except UnicodeError:  # a lone surrogate, or escapes that are no UTF-8
        return None
