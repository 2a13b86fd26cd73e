"""What may name a secret, a label or a keyslot, and why a name is refused.

- A name means one thing: no two accepted names normalise alike, none holds what cannot be seen, and none
  has a part that a file system or a URL would resolve.
- Both sides check: the client before it sends, the agent before it acts.
- It does not tell apart letters of two scripts that look alike, such as Latin and Cyrillic "a".

A path is one to 32 segments joined by ``/``, at most 512 bytes of UTF-8. A segment is not empty, not ``.``
or ``..``, does not begin or end with a space, and holds only visible characters and spaces, without ``?`` and
``#`` (which end the path in a ``keyholt://`` reference). The whole is in Unicode normal form KC (UAX #15), so
that a ligature or a full-width letter cannot stand beside the letter that it imitates. A label's key follows
the same rules for characters; its value may hold any printable ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.limits import (
    MAX_LABEL_KEY,
    MAX_LABEL_VALUE,
    MAX_LABELS,
    MAX_NAME,
    MAX_PATH,
    MAX_PATH_SEGMENTS,
)

__all__ = ["check_labels", "check_name", "check_path", "check_prefix"]

_PLAIN_PATH: Final = re.compile(
    r"(?!\.)[A-Za-z0-9._@:+=,~-]{1,128}(?:/(?!\.)[A-Za-z0-9._@:+=,~-]{1,128}){0,2}"
)
"""Most paths; none that it matches breaks a rule, so they are spared the slow checks."""

_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME - 1}}}")
_RESERVED: Final = re.compile("[?#]")

_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
"""What ``isprintable`` lets pass and nobody sees: the Default_Ignorable_Code_Point characters of Unicode's
DerivedCoreProperties that are letters or marks (fillers, variation selectors, the grapheme joiner), and three
that are drawn as a blank. ``isprintable`` itself refuses controls, format characters (zero width, direction,
soft hyphen), line separators, every space but U+0020, private use, surrogates and what is unassigned."""


def check_path(path: str, field: str = "path") -> None:
    """Refuse a path that names no secret.

    Raises:
        InvalidRequestError, TooLargeError: says which rule is broken and, where there is one, what to write
            instead.
    """
    if _PLAIN_PATH.fullmatch(path):
        return
    _check_characters(path, field)
    _check_segments(path.split("/"), field)


def check_prefix(prefix: str, field: str = "prefix") -> None:
    """Refuse what cannot begin a path; the empty prefix begins them all, and the last segment may be cut off.

    Raises:
        InvalidRequestError, TooLargeError: says which rule is broken.
    """
    if prefix:
        _check_characters(prefix, field)
        *whole, last = prefix.split("/")
        _check_segments(whole, field)
        if len(whole) >= MAX_PATH_SEGMENTS:
            raise _too_many_segments(field, len(whole) + 1)
        if last.startswith(" "):
            raise _refused(field, "no path begins with this prefix, for no segment begins with a space")


def check_name(name: str, field: str = "name") -> None:
    """Refuse a name of a keyslot that is not 1 to 64 of ``a-z 0-9 . _ -``, beginning with a letter or digit.

    Raises:
        InvalidRequestError, TooLargeError: repeats the rule.
    """
    if not _NAME.fullmatch(name):
        kind = TooLargeError if len(name) > MAX_NAME else InvalidRequestError
        raise kind(
            f"the {field} must be 1 to {MAX_NAME} of a-z 0-9 . _ -, and begin with a letter or digit",
            details={"field": field, "limit": MAX_NAME} if kind is TooLargeError else {"field": field},
        )


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that are too many, too long or not printable.

    Raises:
        InvalidRequestError, TooLargeError: names the limit.
    """
    if len(labels) > MAX_LABELS:
        raise _too_large(
            "labels", MAX_LABELS, f"{len(labels)} labels are given; at most {MAX_LABELS} are allowed"
        )
    for key, value in labels.items():
        if not key:
            raise _refused("labels", "a label has an empty key; give it a name")
        _check_label(key, "key", MAX_LABEL_KEY)
        _check_visible(key, "labels", "key of a label")
        _check_label(value, "value", MAX_LABEL_VALUE)


def _check_label(text: str, what: str, limit: int) -> None:
    if _utf8_size(text, "labels") > limit:
        raise _too_large(
            "labels", limit, f"a label's {what} is longer than {limit} bytes of UTF-8; shorten it"
        )
    if not text.isprintable():
        raise _refused("labels", f"a label's {what} holds a character that is not printable; remove it")


def _check_characters(text: str, field: str) -> None:
    if _utf8_size(text, field) > MAX_PATH:
        raise _too_large(field, MAX_PATH, f"the {field} is longer than {MAX_PATH} bytes of UTF-8; shorten it")
    if reserved := _RESERVED.search(text):
        raise _refused(field, f"the {field} holds {reserved[0]!r}, which ends a reference; leave it out")
    _check_visible(text, field, field)


def _check_visible(text: str, field: str, what: str) -> None:
    invisible = _INVISIBLE.search(text)
    if invisible is not None or not text.isprintable():
        character = invisible[0] if invisible else next(one for one in text if not one.isprintable())
        raise _refused(
            field, f"the {what} holds U+{ord(character):04X}, which is not a visible character; remove it"
        )
    if not unicodedata.is_normalized("NFKC", text):
        normalised = unicodedata.normalize("NFKC", text)
        raise InvalidRequestError(
            f"the {what} is not in Unicode normal form KC and would be taken for another name; "
            f"write it as {normalised!r}",
            details={"field": field, "normalised": normalised},
        )


def _check_segments(segments: list[str], field: str) -> None:
    if len(segments) > MAX_PATH_SEGMENTS:
        raise _too_many_segments(field, len(segments))
    for segment in segments:
        _check_segment(segment, field)


def _check_segment(segment: str, field: str) -> None:
    if not segment:
        raise _refused(
            field, f"the {field} is empty or has an empty segment; write it like 'prod/db/password'"
        )
    if segment in {".", ".."}:
        raise _refused(
            field, f"the {field} has the segment {segment!r}; paths are not resolved: write it out"
        )
    if segment != segment.strip(" "):
        raise _refused(field, f"a segment of the {field} begins or ends with a space; remove it")


def _utf8_size(text: str, field: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise _refused(field, f"the {field} holds a lone surrogate, which is not text; remove it") from None


def _refused(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, details={"field": field})


def _too_large(field: str, limit: int, message: str) -> TooLargeError:
    return TooLargeError(message, details={"field": field, "limit": limit})


def _too_many_segments(field: str, count: int) -> TooLargeError:
    message = f"the {field} has {count} segments; at most {MAX_PATH_SEGMENTS} are allowed"
    return _too_large(field, MAX_PATH_SEGMENTS, message)
