"""The commands that take a secret with its whole history: mv, cp, purge."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from keyholt.cli.asking import require_typed
from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.errors import UsageError
from keyholt.cli.offering import unlocked
from keyholt.cli.output import counted, say, show
from keyholt_protocol import operations as ops
from keyholt_protocol.limits import MAX_VERSION
from keyholt_protocol.names import check_path

__all__ = ["COMMANDS"]


def move(options: Namespace) -> int:
    """The command ``mv``."""
    _check(options)
    with unlocked(options) as agent:
        version = agent.move(options.path, to=options.to).version
    return _tell(options, options.to, version, f"{options.path}: is {options.to} now")


def copy(options: Namespace) -> int:
    """The command ``cp``."""
    _check(options)
    with unlocked(options) as agent:
        version = agent.copy(options.path, to=options.to).version
    return _tell(options, options.to, version, f"{options.path}: is {options.to} too")


def _check(options: Namespace) -> None:
    check_path(options.path)
    check_path(options.to, "new path")
    if options.path == options.to:
        raise UsageError("both paths are the same, so nothing was done; give another one")


def purge(options: Namespace) -> int:
    """The command ``purge``."""
    check_path(options.path)
    if_version: int | None = options.if_version
    with unlocked(options) as agent:
        if not options.yes:
            history = agent.history(options.path)  # which says if there is none, before anybody is asked
            if if_version is None:
                if_version = history.latest  # what is asked about is what is purged
            all_of_it = f"{options.path} with {counted(len(history.versions), 'version')}"
            require_typed(f"this erases {all_of_it}, for good", options.path, "--yes")
        version = agent.purge(options.path, if_version=if_version).version
    return _tell(options, options.path, version, f"{options.path}: erased, with its history")


def _tell(options: Namespace, path: str, version: int, text: str) -> int:
    if options.json:
        show({"path": path, "version": version})
    else:
        say(text)
    return 0


_PATH: Final = Parameter(names=("PATH",), help="the secret's path", kind=Kind.SECRET)
_TO: Final = Parameter(names=("TO",), help="a path where nothing was ever written", kind=Kind.SECRET)

COMMANDS: Final = (
    Command(
        words=("mv",),
        help=ops.SECRET_MOVE.summary,
        run=move,
        json="an object: path (TO), version (the newest)",
        parameters=(_PATH, _TO),
    ),
    Command(
        words=("cp",),
        help=ops.SECRET_COPY.summary,
        run=copy,
        json="an object: path (TO), version (the newest)",
        parameters=(_PATH, _TO),
    ),
    Command(
        words=("purge",),
        help=ops.SECRET_PURGE.summary,
        run=purge,
        json="an object: path, version (what was the newest)",
        parameters=(
            _PATH,
            Parameter(
                names=("--if-version",),
                help="purge only if this is the newest version (default: the one that is asked about)",
                kind=Kind.NUMBER,
                bounds=(1, MAX_VERSION),
                metavar="N",
            ),
            Parameter(names=("--yes",), help="do not ask", kind=Kind.FLAG),
        ),
    ),
)
