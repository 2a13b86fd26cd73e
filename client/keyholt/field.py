"""Fields: one part of a value that is a JSON object, such as a password kept together with its user.

- A field that begins with ``/`` is a JSON pointer (RFC 6901), as ``/users/0/name``. Any other is the name of
  a member of the object itself, whatever characters it has.
- A text is given as it is, without quotes; a number, true and false as JSON writes them. Objects, lists and
  null are no values that a program could log in with, and are refused.
- What is refused is never repeated, nor kept as the cause of an error: it is, or surrounds, a secret.
- What JSON makes of a value cannot be wiped; the bytes that are given out can.
- `keyholt run` goes through here where a reference has a field: it brings ``json``, and nothing else.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, cast
else:

    def cast(_: object, value: object) -> object:
        """``typing.cast``, without ``typing``."""
        return value


__all__ = ["pick"]

_NONE: Final = object()

MAX_DIGITS: Final = 9
"""Digits of a list's index; no value is large enough for more."""


class _Literal(str):
    """A number as it was written: converted, it could lose digits."""

    __slots__ = ()


def pick(value: bytearray, field: str, path: str) -> bytearray:
    """The part of a value that a field names, as bytes of its own.

    Args:
        value: JSON text, in UTF-8.
        field: a member's name, or a JSON pointer.
        path: the secret's path, for the sentence of an error.

    Raises:
        InvalidRequestError: the value is no JSON object, or the part is none that is given out.
        NotFoundError: it has no such field.
    """
    whole = _read(value)
    part = value if whole is None else _find(whole, field)
    if isinstance(part, str):
        try:
            return bytearray(part.encode())
        except UnicodeEncodeError:
            pass  # a lone surrogate, which JSON can write; the error holds the text
    if isinstance(part, bool):
        return bytearray(b"true" if part else b"false")
    from keyholt_protocol.errors import InvalidRequestError, NotFoundError

    if part is _NONE:
        raise NotFoundError(
            f"the value of {path!r} has no field {field!r}; a nested one is written like #/outer/inner"
        )
    if part is value:
        raise InvalidRequestError(
            f"the value of {path!r} is no JSON object, so it has no fields; leave #{field} out"
        )
    raise InvalidRequestError(
        f"the field {field!r} of {path!r} is no text, number, true or false; name one inside it, like "
        "#/outer/inner"
    )


def _read(value: bytearray) -> dict[str, object] | None:
    """The object that the JSON text writes; ``None`` if it writes none."""
    try:
        found: object = json.loads(
            value.decode(), parse_int=_Literal, parse_float=_Literal, parse_constant=_Literal
        )
    except (ValueError, RecursionError):  # no UTF-8, no JSON, or nested too deeply
        return None
    return cast("dict[str, object]", found) if isinstance(found, dict) else None


def _find(whole: dict[str, object], field: str) -> object:
    if not field.startswith("/"):
        return _step(whole, field)
    found: object = whole
    for escaped in field[1:].split("/"):
        found = _step(found, escaped.replace("~1", "/").replace("~0", "~"))  # so ordered: RFC 6901, section 4
    return found


def _step(found: object, token: str) -> object:
    """What is called so in an object, or stands there in a list."""
    if isinstance(found, dict):
        return cast("dict[str, object]", found).get(token, _NONE)
    if isinstance(found, list) and _is_index(token):
        items = cast("list[object]", found)
        return items[int(token)] if int(token) < len(items) else _NONE
    return _NONE


def _is_index(token: str) -> bool:
    digits = token.isascii() and token.isdigit() and len(token) <= MAX_DIGITS
    return digits and (token == "0" or not token.startswith("0"))
