"""The command ``diff``: what two versions of a secret differ in, without their values unless they are asked
for.

- Of values that are JSON objects or environment files it names the fields. Base64 and base32 have ``=`` at
  the end, and what stands before it is the secret: one line is no such file, nor is what has names in both
  cases or a variable without a value.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.descriptors import STDOUT, write_all
from keyholt.cli.envfile import EnvFileError, parse
from keyholt.cli.errors import TerminalError, UsageError
from keyholt.cli.harmless import INSIST, harmless
from keyholt.cli.offering import unlocked
from keyholt.cli.output import moment, say, show, table
from keyholt.secret import Secret
from keyholt_protocol.errors import NotFoundError
from keyholt_protocol.limits import MAX_VERSION
from keyholt_protocol.messages import SecretHistoryResult

__all__ = ["COMMANDS"]

FEWEST: Final = 2
"""Variables that make a value an environment file."""

_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*|[a-z_][a-z0-9_]*")


def diff(options: Namespace) -> int:
    """The command ``diff``."""
    if options.show and options.json:
        raise UsageError("--show prints text and --json does not; give one of them")
    with unlocked(options) as agent:
        if options.v1:
            older, newer = _version(options.v1), _version(options.v2) if options.v2 else None
        else:
            older, newer = _newest_two(options.path, agent.history(options.path))
        with agent.get(options.path, version=older) as first, agent.get(options.path, version=newer) as last:
            if options.show:
                _show(options.path, _unified(first, last).encode())
            else:
                _tell(options, first, last)
    return 0


def _show(path: str, text: bytes) -> None:
    if os.isatty(STDOUT) and not harmless(text):
        raise TerminalError(f"what differs in {path!r} {INSIST}")
    write_all(STDOUT, text)


def _version(text: str) -> int:
    number = text.removeprefix("v")
    if not (number.isascii() and number.isdigit() and len(number) <= len(str(MAX_VERSION))):
        raise UsageError("a version is a number, as `keyholt history` shows them")
    return int(number)


def _newest_two(path: str, history: SecretHistoryResult) -> tuple[int, int]:
    kept = [version.version for version in history.versions if not (version.destroyed or version.damaged)]
    if len(kept) < 2:  # noqa: PLR2004  # a difference takes two
        raise NotFoundError(f"{path} has no two versions to compare; see `keyholt history`")
    return kept[1], kept[0]


def _tell(options: Namespace, first: Secret, last: Secret) -> None:
    equal = first == last
    changes = _changes(_fields(first), _fields(last))
    if options.json:
        sides = [
            {
                "version": s.version,
                "created": s.created,
                "expires": s.expires,
                "labels": s.labels,
                "size": len(s),
            }
            for s in (first, last)
        ]
        show({"path": options.path, "versions": sides, "equal": equal, **changes})
        return
    rows: list[Sequence[object]] = [
        ("", f"v{first.version}", f"v{last.version}"),
        ("written", moment(first.created), moment(last.created)),
        ("bytes", len(first), len(last)),
    ]
    if first.expires != last.expires:
        rows.append(
            ("expires", *("never" if s.expires is None else moment(s.expires) for s in (first, last)))
        )
    if first.labels != last.labels:
        rows.append(("labels", *(" ".join(f"{k}={v}" for k, v in s.labels.items()) for s in (first, last))))
    lines = [*table(rows), "the values are the same" if equal else "the values differ"]
    lines += [f"{word}: {', '.join(names)}" for word, names in changes.items() if names]
    say(*lines)


def _changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, list[str] | None]:
    """Names of fields, by what has become of them; nothing is known of values without."""
    if old is None or new is None:
        return {"changed": None, "added": None, "removed": None}
    return {
        "changed": [name for name in old if name in new and old[name] != new[name]],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
    }


def _fields(secret: Secret) -> Mapping[str, Any] | None:
    """The fields of a value that has some."""
    try:
        found: object = json.loads(secret.bytes)
    except (ValueError, RecursionError):  # the latter where it is nested too deeply
        found = None
    if isinstance(found, dict):
        return cast("Mapping[str, Any]", found)
    try:
        variables = parse(secret.bytes)
    except EnvFileError:
        return None
    named = all(_NAME.fullmatch(name) and value.strip("=") for name, value in variables.items())
    return variables if named and len(variables) >= FEWEST else None


def _unified(first: Secret, last: Secret) -> str:
    before, after = (secret.text.splitlines(keepends=True) for secret in (first, last))
    old, new = (f"{secret.path} v{secret.version}" for secret in (first, last))
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(before, after, old, new)
    )


COMMANDS: Final = (
    Command(
        words=("diff",),
        help="Tells what two versions of a secret differ in: dates, labels, length, and of JSON objects and "
        "environment files which fields.",
        run=diff,
        json="an object: path, versions (two objects: version, created, expires, labels, size), equal, and "
        "changed, added, removed (names of fields; null if the values have none)",
        parameters=(
            Parameter(names=("PATH",), help="the secret's path", kind=Kind.SECRET),
            Parameter(
                names=("V1",), help="the version to begin with (default: the one before)", optional=True
            ),
            Parameter(names=("V2",), help="the one to compare it with (default: the newest)", optional=True),
            Parameter(names=("--show",), help="print the values, as a unified diff", kind=Kind.FLAG),
        ),
    ),
)
