"""What callers give the library, held to its types and bounds before anything is sent.

- A wrong type is a ``TypeError`` that names the argument and what it must be: not the error of whatever met
  it first, nor the agent's of what came over the wire.
- What has its type and is not allowed is an ``InvalidRequestError``; the messages say theirs themselves. So
  is a label that is no text: a mapping has its type, and what it holds comes from elsewhere.
- A sentence names the type of what was given and never repeats it: it may be a secret. A label's name is
  none, and is repeated.
"""

from __future__ import annotations

import math
import time
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, ParamSpec, TypeVar, cast

from keyholt_protocol.errors import InvalidRequestError

__all__ = ["buffer_of", "moment_of", "request_of", "seconds_of"]

P = ParamSpec("P")
T = TypeVar("T")

_WORDS: Final[dict[object, str]] = {
    str: "text (str)",
    int: "a whole number (int)",
    bool: "True or False",
    Mapping: "a mapping of text to text",
    types.NoneType: "None",
}
"""What the fields of requests may be, as the sentences call it."""

_KINDS: Final[dict[object, dict[str, tuple[type[Any], ...]]]] = {}
"""The types that each field of a message may have, found out when the message is first made."""


def request_of(message: Callable[P, T], *_: P.args, **fields: P.kwargs) -> T:
    """A request's message from its fields. A mapping is copied: the caller's may change before it is sent.

    Raises:
        TypeError: a field is not of its type.
        InvalidRequestError: a mapping holds something else than text; says at which key.
        InvalidRequestError, TooLargeError: the message refuses what it is.
    """
    kinds = _KINDS.get(message)
    if kinds is None:
        kinds = _kinds_of(message)
    values = cast("dict[str, object]", fields)
    for name, value in values.items():
        if type(value) not in kinds[name]:  # as hardly ever: most fetches are made by programs that are right
            values[name] = _checked(name, value, kinds[name])
    return cast("Callable[..., T]", message)(**values)


def buffer_of(value: object, name: str) -> memoryview:
    """The bytes of a value or a passphrase, without a copy; text has to be encoded into one.

    Raises:
        TypeError: it is neither text nor bytes.
        InvalidRequestError: it is text that UTF-8 has no form for.
    """
    try:
        return memoryview(_encoded(value, name) if isinstance(value, str) else cast("bytes", value)).cast("B")
    except TypeError:
        given = type(value).__name__
        raise TypeError(f"the {name} must be bytes, bytearray, memoryview or text, not {given}") from None


def seconds_of(timeout: object) -> float:
    """A timeout as seconds; ``None`` is for as long as it takes, which is infinite.

    Raises:
        InvalidRequestError: it is no length of time.
        TypeError: it is no number.
    """
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout > 0:  # as of nan, which no clock ever passes
        raise InvalidRequestError("a timeout must be more than 0 seconds; math.inf is as long as it takes")
    return timeout


def moment_of(expires: object) -> int | None:
    """A time of expiry as seconds since 1970-01-01 UTC, rounded up; ``None`` stays, and so does 0, for never.

    Args:
        expires: those seconds, a ``datetime`` with a time zone, or a ``timedelta`` from now.

    Raises:
        InvalidRequestError: it is past, or has no time zone.
        TypeError: it is none of them.
    """
    if expires is None or (type(expires) is int and not expires):
        return expires
    now = time.time()
    if isinstance(expires, timedelta):
        moment = now + expires.total_seconds()
    elif isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise _no_expiry("has no time zone; use datetime.now(timezone.utc) and the like")
        moment = expires.timestamp()
    elif isinstance(expires, int) and not isinstance(expires, bool):
        moment = expires
    else:
        given = type(expires).__name__
        raise TypeError(
            f"expires must be whole seconds since 1970 (int), a datetime or a timedelta from now, not {given}"
        )
    if moment <= now:
        raise _no_expiry("is past; give a later one, or a timedelta, which counts from now")
    return math.ceil(moment)


def _no_expiry(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"the time of expiry {why}", details={"field": "expires"})


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass  # it holds the text: raised in here, the next error would keep it as its context
    raise InvalidRequestError(
        f"the {name} holds a lone surrogate, which has no form in UTF-8; give it as bytes "
        "(os.fsencode gives those of an argument or a variable)",
        details={"field": "payload"},
    )


def _checked(name: str, value: object, kinds: tuple[type[Any], ...]) -> object:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join(_WORDS[kind] for kind in kinds)
        raise TypeError(f"{name} must be {words}, not {type(value).__name__}")
    if not isinstance(value, Mapping):
        return value
    copied = dict(cast("Mapping[object, object]", value))
    for key, text in copied.items():
        if not isinstance(key, str):
            given = type(key).__name__
            raise _no_text(name, f"the key of one is of type {given}; its name must be text (str)")
        if not isinstance(text, str):
            given = type(text).__name__
            raise _no_text(name, f"the value of {key!r} is of type {given}; write it as text (str)")
    return copied


def _no_text(name: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} hold text only: {why}", details={"field": name})


def _kinds_of(message: object) -> dict[str, tuple[type[Any], ...]]:
    hints = typing.get_type_hints(message)
    kinds = _KINDS[message] = {name: _plain_kinds(hint) for name, hint in hints.items()}
    return kinds


def _plain_kinds(hint: object) -> tuple[type[Any], ...]:
    if isinstance(hint, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _plain_kinds(part))
    return (cast("type[Any]", typing.get_origin(hint) or hint),)
