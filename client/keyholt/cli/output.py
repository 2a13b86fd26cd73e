"""What the command line prints: results to standard output, problems to standard error, as text or JSON.

- The shape of ``--json`` is stable: a result is one object or array on one line, its fields named as on the
  wire, all of them always there; an error is ``{"error": {"code", "message", "retryable"}}`` on standard
  error.
- Everything is UTF-8, whatever the locale. What cannot be written is an ``OSError`` of the caller.
- No secret comes through here but through ``write_value``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from keyholt.cli.entry import STDOUT, write_all
from keyholt.secret import Secret
from keyholt_protocol.errors import AgentUnreachableError, KeyholtError

__all__ = ["moment", "plain", "say", "show", "table", "write_error", "write_value"]

STDERR: Final = 2


def say(text: str) -> None:
    """Print a line to standard output."""
    write_all(STDOUT, f"{text}\n".encode(errors="replace"))


def show(value: object) -> None:
    """Print a message, or anything made of messages, as JSON."""
    say(json.dumps(plain(value), ensure_ascii=False))


def plain(value: object) -> object:
    """The value as JSON knows it: messages become objects with all their fields."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


def write_value(secret: Secret, *, as_json: bool, newline: bool) -> None:
    """Print a secret's value, raw or in an object with its encoding: ``utf-8`` or ``base64``."""
    if not as_json:
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


def write_error(
    message: str, error: BaseException | None = None, *, as_json: bool, code: str = "failed"
) -> None:
    """Print a problem to standard error: one sentence, or the JSON of it."""
    if as_json:
        if isinstance(error, KeyholtError):
            code = (
                error.code.wire_name if not isinstance(error, AgentUnreachableError) else "agent_unreachable"
            )
        retryable = isinstance(error, KeyholtError) and error.retryable
        text = json.dumps(
            {"error": {"code": code, "message": message, "retryable": retryable}}, ensure_ascii=False
        )
    else:
        text = f"keyholt: {message}"
    if sys.stderr is not None:
        write_all(STDERR, f"{text}\n".encode(errors="replace"))


def moment(seconds: int) -> str:
    """A time for people: UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as text, their columns aligned by character count."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in texts)
    return "\n".join(line.rstrip() for line in lines)
