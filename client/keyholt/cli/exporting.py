"""The command ``export``: the values of all secrets below a prefix, for a program that reads files only.

- A secret's name there is the last part of its path; two that have the same are refused.
- To a terminal nothing is printed without ``--force``, and then only after a question.
- All values are fetched before the first is written; a file is whole or not there, and its owner's alone.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from keyholt.cli.asking import require_typed
from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.descriptors import STANDARD, STDOUT
from keyholt.cli.errors import TerminalError, UsageError, placed
from keyholt.cli.formats import FORMATS, FormatError, write
from keyholt.cli.harmless import INSIST, harmless
from keyholt.cli.offering import unlocked
from keyholt.cli.outfile import whole_file
from keyholt.cli.output import counted, say, say_aside, show
from keyholt.invocations import secret_get
from keyholt_protocol.errors import KeyholtError, NotFoundError
from keyholt_protocol.messages import SecretInfo
from keyholt_protocol.names import check_path

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["COMMANDS"]

OWNER_ONLY: Final = 0o600


def export(options: Namespace) -> int:
    """The command ``export``."""
    prefix = options.prefix.rstrip("/")
    check_path(prefix)
    to_terminal = options.out_file in {None, STANDARD} and os.isatty(STDOUT)
    if to_terminal and not options.force:
        raise UsageError(
            "the values would stand on the terminal; give --out-file FILE, or insist with --force"
        )
    values: dict[str, bytearray] = {}
    try:
        with whole_file(options.out_file, OWNER_ONLY) as write_file:
            with unlocked(options) as agent:
                paths = _names([info for info in agent.list(f"{prefix}/") if _is_given_out(info)])
                if not paths:
                    raise NotFoundError(f"there is no secret below {prefix}/; see `keyholt list`")
                if to_terminal:
                    require_typed(f"this prints {counted(len(paths), 'value')}", "yes", "a pipe")
                _fetch(agent, paths, values)
            text = write(options.format or "env", values)
            if to_terminal and not harmless(text):
                raise TerminalError(f"what would be printed {INSIST}")
            write_file(text)
    finally:
        for value in values.values():
            value[:] = bytes(len(value))
    if options.out_file not in {None, STANDARD}:
        if options.json:
            show({"file": options.out_file, "secrets": len(values)})
        else:
            say(f"{options.out_file}: {counted(len(values), 'value')}, in clear")
    return 0


def _fetch(agent: Client, paths: Mapping[str, str], values: dict[str, bytearray]) -> None:
    """Add the values by name; what was added before an error is the caller's to wipe."""
    names = iter(paths)
    try:
        for secret in agent.perform_all([secret_get(path) for path in paths.values()]):
            with secret:
                values[next(names)] = bytearray(secret.view)
    except KeyholtError as error:
        raise placed(error, f"nothing was written; {paths[next(names)]}") from None


def _is_given_out(info: SecretInfo) -> bool:
    """Whether there is a value to be had; if not, that is said."""
    if info.expired or info.destroyed:
        say_aside(f"{info.path} is left out: it is {'destroyed' if info.destroyed else 'expired'}")
        return False
    return True


def _names(infos: list[SecretInfo]) -> dict[str, str]:
    """The paths by name."""
    paths: dict[str, str] = {}
    for info in infos:
        name = info.path.rpartition("/")[2]
        if name in paths:
            raise FormatError(
                f"{paths[name]} and {info.path} would have the same name; export a longer prefix for each"
            )
        paths[name] = info.path
    return paths


COMMANDS: Final = (
    Command(
        words=("export",),
        help="Writes the values of all secrets below a prefix, in clear, each named by the last part of its "
        "path. `run` and `inject` leave no values on the disk.",
        run=export,
        json="an object, with --out-file only: file, secrets (how many)",
        parameters=(
            Parameter(names=("PREFIX",), help="the path that theirs begin with", kind=Kind.SECRET),
            Parameter(
                names=("--format",),
                help="env (default), json, yaml, or shell: lines that `eval` takes",
                choices=tuple(FORMATS),
                metavar="FORMAT",
            ),
            Parameter(
                names=("-o", "--out-file"),
                help="write here, readable by the owner only (default, or -: standard output)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
            Parameter(names=("--force",), help="print to a terminal too, after a question", kind=Kind.FLAG),
        ),
    ),
)
