r"""What the command line prints: results to standard output, problems to standard error, as text or JSON.

- The shape of ``--json`` is stable: a result is one object or array on one line, its fields named as on the
  wire, all of them always there; an error is ``{"error": {"code", "message", "retryable", "details"}}`` on
  standard error.
- Text cannot steer a terminal: what is not printable in a name, a label or an agent's sentence is written out
  (``\x1b``), in JSON as its escape. Values go out as they are, but to a
  terminal only what is plain text, or insisted on.
- Everything is UTF-8, whatever the locale. What cannot be written is an ``OSError`` of the caller.
- No secret comes through here but through ``write_value``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from keyholt.cli.cells import aligned
from keyholt.cli.descriptors import STDERR, STDOUT, write_all
from keyholt.cli.errors import TerminalError
from keyholt.cli.harmless import INSIST, harmless
from keyholt_protocol.errors import KeyholtError

if TYPE_CHECKING:
    from keyholt.secret import Secret

__all__ = [
    "counted",
    "moment",
    "plain",
    "printable",
    "say",
    "say_aside",
    "show",
    "table",
    "write_error",
    "write_value",
]


_LAST_OF_BMP: Final = 0xFFFF
"""Characters beyond it are two escapes in JSON (RFC 8259, section 7)."""


def say(*lines: str) -> None:
    """Print lines to standard output, each of them one whatever it holds."""
    write_all(STDOUT, "".join(f"{printable(line)}\n" for line in lines).encode())


def show(value: object) -> None:
    """Print a message, or anything made of messages, as JSON."""
    write_all(STDOUT, _json(plain(value)))


def printable(text: str) -> str:
    """The text with all that is not printable written out: controls, line ends, direction marks."""
    if not text.isprintable():
        for character in set(text):
            if not character.isprintable():
                text = text.replace(character, character.encode("unicode_escape").decode())
    return text


def plain(value: object) -> object:
    """The value as JSON knows it: messages become objects with all their fields."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


def write_value(secret: Secret, *, as_json: bool, newline: bool, raw: bool) -> None:
    """Print a secret's value, as it is or in an object with its encoding: ``utf-8`` or ``base64``.

    Raises:
        TerminalError: it would act on the terminal, and ``raw`` does not insist.
    """
    if not as_json:
        if os.isatty(STDOUT) and not raw:
            with _copied(secret) as value:
                if not harmless(value):
                    raise TerminalError(f"the value of {secret.path!r} {INSIST}, or insist with --raw")
        write_all(STDOUT, secret.view)
        if newline and os.isatty(STDOUT) and bytes(secret.view[-1:]) != b"\n":
            write_all(STDOUT, b"\n")
        return
    try:
        encoding, text = "utf-8", str(secret.view, "utf-8")
    except UnicodeDecodeError:
        encoding, text = "base64", base64.b64encode(secret.view).decode()
    about = {name: getattr(secret, name) for name in ("path", "version", "created", "expires", "labels")}
    show({**about, "encoding": encoding, "value": text})


@contextmanager
def _copied(secret: Secret) -> Generator[bytearray]:
    value = bytearray(secret.view)
    try:
        yield value
    finally:
        value[:] = bytes(len(value))


def write_error(
    message: str, error: BaseException | None = None, *, as_json: bool, code: str = "failed"
) -> None:
    """Print a problem to standard error: one sentence, or the JSON of it."""
    known = error if isinstance(error, KeyholtError) else None
    if as_json:
        about: dict[str, object] = {
            "code": code if known is None else known.code.wire_name,
            "message": message,
            "retryable": known is not None and known.retryable,
            "details": {} if known is None else known.details,
        }
        data = _json({"error": about})
    else:
        data = f"keyholt: {printable(message)}\n".encode()
    if sys.stderr is not None:
        write_all(STDERR, data)


def say_aside(text: str) -> None:
    """Print a remark to standard error, which is no error."""
    if sys.stderr is not None:
        write_all(STDERR, f"keyholt: {printable(text)}\n".encode())


def counted(count: int, one: str, several: str | None = None) -> str:
    """A count with its noun, such as ``1 secret`` and ``2 secrets``."""
    return f"{count} {one}" if count == 1 else f"{count} {several or one + 's'}"


def moment(seconds: int) -> str:
    """A time for people: UTC, to the second."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # no agent of ours says so
        return f"{seconds} s after 1970"


def table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Rows as lines, their columns aligned as a terminal shows them."""
    return aligned([[printable(str(cell)) for cell in row] for row in rows])


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():  # json itself escapes the controls up to U+001F only
        for character in set(text):
            if not character.isprintable():
                text = text.replace(character, _json_escape(character))
    return f"{text}\n".encode()


def _json_escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= _LAST_OF_BMP else json.dumps(character)[1:-1]
