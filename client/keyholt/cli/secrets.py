"""The commands about secrets: put, get, list, history, rm, undelete, destroy."""

from __future__ import annotations

import functools
import os
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.descriptors import STDOUT
from keyholt.cli.errors import UsageError
from keyholt.cli.offering import unlocked
from keyholt.cli.output import moment, say, say_aside, show, table, write_value
from keyholt.cli.readiness import require_unlocked
from keyholt.cli.trimming import ends_a_line, trimmed
from keyholt.cli.value import GIVEN, read_value
from keyholt_protocol import operations as ops
from keyholt_protocol.limits import MAX_VERSION
from keyholt_protocol.messages import SecretInfo, SecretVersionInfo
from keyholt_protocol.names import check_path

__all__ = ["COMMANDS"]

CLEAR_AFTER: Final = 45
"""Seconds: time to find the place and paste, and little more."""

MAX_CLEAR_AFTER: Final = 86_400

_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}


def put(options: Namespace) -> int:
    """The command ``put``."""
    labels = _new_labels(options)
    expires = _new_expiry(options, datetime.now(UTC))
    value = read_value(
        options.path,
        options.file,
        functools.partial(_require_writable, options),
        multiline=options.multiline,
        allow_empty=options.allow_empty,
    )
    used = trimmed(value) if options.trim else value
    if ends_a_line(used):
        say_aside("the value ends with a newline; --trim leaves that out")
    try:
        with unlocked(options) as agent:
            result = agent.put(
                options.path, used, if_version=options.if_version, labels=labels, expires=expires
            )
    finally:
        value[:] = bytes(len(value))
    if options.json:
        show({"path": options.path, "version": result.version, "created": result.created})
    else:
        say(f"{options.path}: version {result.version}")
    return 0


def _require_writable(options: Namespace) -> None:
    check_path(options.path)
    with unlocked(options) as agent:
        require_unlocked(agent)


def get(options: Namespace) -> int:
    """The command ``get``."""
    if options.clip:
        return _clip(options)
    with unlocked(options) as agent, agent.get(options.path, version=options.version) as secret:
        write_value(secret, as_json=options.json, newline=not options.no_newline, raw=options.raw)
    return 0


def _clip(options: Namespace) -> int:
    from keyholt.cli.clipboard import copy, find_clipboard

    clipboard = find_clipboard()
    with unlocked(options) as agent, agent.get(options.path, version=options.version) as secret:
        copy(secret.view, clipboard, options.clear_after)
    if options.json:
        show({"path": options.path, "version": secret.version, "clears_in": options.clear_after})
    else:
        say(
            f"{options.path}: version {secret.version} is on the clipboard, for {options.clear_after} seconds"
        )
    return 0


def list_secrets(options: Namespace) -> int:
    """The command ``list``."""
    with unlocked(options) as agent:
        secrets = agent.list(options.prefix)
    if options.json:
        show(secrets)
    elif secrets and options.long:
        say(*table([(s.path, f"v{s.version}", *_about(s)) for s in secrets]))
    else:
        # What is not given out is marked for people; programs get paths alone, and --json the marks.
        mark = _mark if os.isatty(STDOUT) else _no_mark
        say(*(secret.path + mark(secret) for secret in secrets))
    return 0


def _mark(info: SecretInfo) -> str:
    marks = {"damaged": info.damaged, "destroyed": info.destroyed, "expired": info.expired}
    return next((f"  ({word})" for word, holds in marks.items() if holds), "")


def _no_mark(_: SecretInfo) -> str:
    return ""


def history(options: Namespace) -> int:
    """The command ``history``."""
    with unlocked(options) as agent:
        result = agent.history(options.path)
    if options.json:
        show({"latest": result.latest, "deleted": result.deleted, "versions": result.versions})
        return 0
    if result.deleted is not None:
        say(f"deleted {moment(result.deleted)}; bring it back with `keyholt undelete`")
    if result.versions:
        say(*table([(f"v{v.version}", *_about(v)) for v in result.versions]))
    return 0


def delete(options: Namespace) -> int:
    """The command ``rm``."""
    with unlocked(options) as agent:
        version = agent.delete(options.path).version
    return _tell(options, version, f"{options.path}: deleted; bring it back with `keyholt undelete`")


def undelete(options: Namespace) -> int:
    """The command ``undelete``."""
    with unlocked(options) as agent:
        version = agent.undelete(options.path).version
    return _tell(options, version, f"{options.path}: back, version {version}")


def destroy(options: Namespace) -> int:
    """The command ``destroy``."""
    with unlocked(options) as agent:
        agent.destroy(options.path, version=options.version)
    return _tell(options, options.version, f"{options.path}: version {options.version} is destroyed")


def _tell(options: Namespace, version: int, text: str) -> int:
    if options.json:
        show({"path": options.path, "version": version})
    else:
        say(text)
    return 0


def _about(info: SecretInfo | SecretVersionInfo) -> tuple[str, str]:
    """When it was written, and what else is to be said of it."""
    if info.damaged:
        return "?", "damaged: restore a backup"
    if info.destroyed:
        return moment(info.created), "destroyed"
    labels = [f"{key}={value}" for key, value in info.labels.items()]
    word = "expired" if info.expired else "expires"
    expiry = [] if info.expires is None else [f"{word} {moment(info.expires)}"]
    return moment(info.created), " ".join([*expiry, *labels])


def _new_labels(options: Namespace) -> dict[str, str] | None:
    """The labels that a version is to have; None: those of the version before."""
    if options.no_labels and options.label:
        raise UsageError("give --label or --no-labels, not both: --label takes the place of all labels")
    return {} if options.no_labels else _labels(options.label) or None


def _new_expiry(options: Namespace, now: datetime) -> datetime | int | None:
    """When a version is to expire, 0 for never; None: when the version before does."""
    if options.no_expiry and options.expires is not None:
        raise UsageError("give --expires or --no-expiry, not both")
    if options.expires is None:
        return 0 if options.no_expiry else None
    expires = _expiry(options.expires, now)
    if expires <= now:
        raise UsageError(
            f"--expires {options.expires} has passed, so nobody would be given the value: give a time to "
            "come, or --no-expiry"
        )
    return expires


def _labels(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if not all(mark for _, mark, _ in pairs):
        raise UsageError("a label is written KEY=VALUE; see `keyholt put --help`")
    return {key: value for key, _, value in pairs}


def _expiry(text: str, now: datetime) -> datetime:
    """The time that ``text`` means: so long from now, a day (its beginning, UTC), or an ISO 8601 time."""
    count, unit = text[:-1], _UNITS.get(text[-1:])
    try:
        if unit is not None and count.isascii() and count.isdigit():
            return now + timedelta(**{unit: int(count)})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            "--expires is written like 90d, 12h, 30m, 2031-12-31 or 2031-12-31T12:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_PATH: Final = Parameter(
    names=("PATH",), help="the secret's path, such as prod/db/password", kind=Kind.SECRET
)

COMMANDS: Final = (
    Command(
        words=("put",),
        help=f"{ops.SECRET_PUT.summary} On a terminal it asks for the value twice, and does not show it.",
        run=put,
        json="an object: path, version, created",
        secret=GIVEN,
        parameters=(
            _PATH,
            Parameter(
                names=("--file",),
                help="read the value, as it is, from this file (default, or -: standard input)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
            Parameter(names=("--trim",), help="leave line ends behind the value out", kind=Kind.FLAG),
            Parameter(
                names=("-m", "--multiline"),
                help="on a terminal, take lines up to Ctrl-D, line ends and all, and ask once",
                kind=Kind.FLAG,
            ),
            Parameter(
                names=("--allow-empty",),
                help="write an empty value too (default: refuse it, as what a program leaves that failed)",
                kind=Kind.FLAG,
            ),
            Parameter(
                names=("--if-version",),
                help="write only if this is the newest version, 0: if there is none (default: in any case)",
                kind=Kind.NUMBER,
                bounds=(0, MAX_VERSION),
                metavar="N",
            ),
            Parameter(
                names=("--label",),
                help="a label of the version, in the place of all there were; may be given several times "
                "(default: the labels stay, unless the newest version is destroyed)",
                metavar="KEY=VALUE",
                many=True,
            ),
            Parameter(names=("--no-labels",), help="take all labels away", kind=Kind.FLAG),
            Parameter(
                names=("--expires",),
                help="when the version ceases to be given out: 90d, 12h, 30m, 2031-12-31 or a full ISO time "
                "(default: it stays, unless it has passed)",
                metavar="WHEN",
            ),
            Parameter(names=("--no-expiry",), help="take the expiry away", kind=Kind.FLAG),
        ),
    ),
    Command(
        words=("get",),
        help=f"{ops.SECRET_GET.summary} On a terminal a newline follows it, and only plain text is shown.",
        run=get,
        json="an object: path, version, created, expires, labels, encoding (utf-8 or base64), value; with "
        "--clip instead: path, version, clears_in",
        parameters=(
            _PATH,
            Parameter(
                names=("--version",),
                help="the version to get (default: the newest)",
                kind=Kind.NUMBER,
                bounds=(1, MAX_VERSION),
                metavar="N",
            ),
            Parameter(names=("-n", "--no-newline"), help="no newline on a terminal either", kind=Kind.FLAG),
            Parameter(
                names=("--raw",),
                help="write to a terminal what it may act on, too: escape sequences, binary data",
                kind=Kind.FLAG,
            ),
            Parameter(
                names=("-c", "--clip"),
                help="put the value on the clipboard, by wl-copy, xclip or xsel, and print none of it",
                kind=Kind.FLAG,
            ),
            Parameter(
                names=("--clear-after",),
                help="with --clip: clear the clipboard after so many seconds, if it still holds the value "
                f"(default: {CLEAR_AFTER})",
                kind=Kind.NUMBER,
                bounds=(1, MAX_CLEAR_AFTER),
                metavar="N",
                default=CLEAR_AFTER,
            ),
        ),
    ),
    Command(
        words=("list",),
        help="Lists live secrets without their values.",
        run=list_secrets,
        json="an array of objects: path, version, created, expires, labels, expired, destroyed, damaged",
        parameters=(
            Parameter(
                names=("PREFIX",),
                help="how their paths begin (default: all)",
                kind=Kind.SECRET,
                optional=True,
            ),
            Parameter(names=("-l", "--long"), help="with version, date and labels", kind=Kind.FLAG),
        ),
    ),
    Command(
        words=("history",),
        help="Lists the versions of a secret, newest first; of a deleted one too.",
        run=history,
        json="an object: latest, deleted (null, or since when), versions (an array of objects: version, "
        "created, expires, labels, expired, destroyed, damaged)",
        parameters=(_PATH,),
    ),
    Command(
        words=("rm",),
        help=ops.SECRET_DELETE.summary,
        run=delete,
        json="an object: path, version (the newest, now hidden)",
        parameters=(_PATH,),
    ),
    Command(
        words=("undelete",),
        help=ops.SECRET_UNDELETE.summary,
        run=undelete,
        json="an object: path, version (the newest, visible again)",
        parameters=(_PATH,),
    ),
    Command(
        words=("destroy",),
        help=ops.SECRET_DESTROY.summary,
        run=destroy,
        json="an object: path, version",
        parameters=(
            _PATH,
            Parameter(
                names=("--version",),
                help="the version to destroy",
                kind=Kind.NUMBER,
                bounds=(1, MAX_VERSION),
                metavar="N",
                required=True,
            ),
        ),
    ),
)
