"""The command ``import``: every variable of an environment file becomes the secret PREFIX/NAME.

- A variable that already is a reference is not stored, nor is one that the options leave out; both go into
  the file of references as they are, and so do comments (``keyholt.cli.rewriting``).
- All names and values are checked, and the file of references is begun, before the first is written. If a
  write fails, those before it are there, and importing again goes on from there.
- A value that is the secret's newest already is not written again. To see that, one after the other is
  fetched, compared and wiped: never more than one is here.
- What was read is wiped in the end, and whatever was made of it.
"""

from __future__ import annotations

import hmac
import os
import sys
from argparse import Namespace
from collections.abc import Container, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.descriptors import STANDARD, read_all
from keyholt.cli.envfile import EnvFileError, variables
from keyholt.cli.errors import InputFileError, UsageError, placed
from keyholt.cli.offering import unlocked
from keyholt.cli.outfile import whole_file
from keyholt.cli.output import counted, say, say_aside, show
from keyholt.cli.progress import shown
from keyholt.cli.rewriting import require_plain, rewritten
from keyholt.cli.terminal import ask_lines
from keyholt.reference import SCHEME, write
from keyholt_protocol.errors import KeyholtError, NotFoundError
from keyholt_protocol.messages import SecretPutResult
from keyholt_protocol.names import check_path

if TYPE_CHECKING:
    from keyholt.blocking import Client
    from keyholt.invocations import Invocation

__all__ = ["COMMANDS"]

MAX_TYPED: Final = 16 * 1024 * 1024
"""Bytes of a file that is typed or pasted."""

LISTED_FROM: Final = 100
"""Variables from which on it is listed which of them there are: a page of 200 costs as much as 20 fetches."""

PUBLIC: Final = 0o666
"""Of which the umask leaves what is usual: references are no secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variable:
    """``place``: its file and line. ``path``: where it is stored, unless it is a reference."""

    name: str
    value: bytearray
    place: str
    path: str
    chosen: bool

    @property
    def kept(self) -> bool:
        return self.value.startswith(SCHEME.encode())

    @property
    def stored(self) -> bool:
        return self.chosen and not self.kept

    def wipe(self) -> None:
        """Zero the value."""
        self.value[:] = bytes(len(self.value))

    def __repr__(self) -> str:
        return f"<variable {self.name}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """Paths with their newest versions: of what was written, and of what had its value already."""

    written: list[dict[str, object]]
    unchanged: list[dict[str, object]]


def import_file(options: Namespace) -> int:
    """The command ``import``."""
    prefix = options.prefix.rstrip("/")
    check_path(prefix)
    on_standard_output = options.references == STANDARD
    if on_standard_output and options.json:
        raise UsageError(
            "--json and --references - both print to standard output; give a file to one of them"
        )
    data, called = _read_file(options.file)
    try:
        found = _read(data, called, prefix, options)
    except BaseException:
        data[:] = bytes(len(data))
        raise
    try:
        stored = [variable for variable in found if variable.stored]
        kept = [variable.name for variable in found if variable.kept]
        if options.dry_run:
            return _tell_intent(options, stored, kept)
        if options.references is None:
            done = _store(options, stored)
        else:
            with whole_file(options.references, PUBLIC) as write_file:
                done = _store(options, stored)
                references = {variable.name: write(variable.path) for variable in stored}
                text, left_out = rewritten(data, references)
                write_file(text)
            if left_out:
                say_aside(f"left out {counted(left_out, 'line')} of comment, which may hold values")
    finally:
        data[:] = bytes(len(data))
        for variable in found:
            variable.wipe()
    if options.json:
        show({"imported": done.written, "unchanged": done.unchanged, "kept": kept})
    elif not on_standard_output:
        already = f"; {counted(len(kept), 'was a reference', 'were references')} already" if kept else ""
        same = f"; {counted(len(done.unchanged), 'was', 'were')} unchanged" if done.unchanged else ""
        say(f"imported {counted(len(done.written), 'secret')} below {prefix}/{same}{already}")
    return 0


def _tell_intent(options: Namespace, stored: Sequence[_Variable], kept: Sequence[str]) -> int:
    """What ``--dry-run`` prints: the paths that would be written."""
    for variable in stored:
        _put(variable)
    paths = [variable.path for variable in stored]
    if options.json:
        show({"would_import": paths, "kept": kept})
    else:
        say(*(f"would write {path}" for path in paths))
    return 0


def _read_file(file: str) -> tuple[memoryview, str]:
    """What the file holds, and what to call it."""
    if file == STANDARD and sys.stdin is None:
        raise UsageError("standard input is closed; give a file")
    with open(0 if file == STANDARD else file, "rb", buffering=0, closefd=file != STANDARD) as stream:
        called = "standard input" if file == STANDARD else file
        if os.isatty(stream.fileno()):
            # A line that is typed there would be cut by the kernel, and shown.
            typed = ask_lines("The file, not shown", MAX_TYPED, instead="give a file")
            return memoryview(typed), called
        return read_all(stream.fileno()), called


def _read(data: memoryview, called: str, prefix: str, options: Namespace) -> list[_Variable]:
    found: dict[str, _Variable] = {}
    try:
        for name, value, line in variables(data):
            earlier = found.get(name)
            found[name] = _Variable(
                name=name,
                value=value,
                place=f"{called}, line {line}",
                path=f"{prefix}/{name}",
                chosen=_is_chosen(name, options),
            )
            if earlier is not None:
                was_kept = earlier.kept
                earlier.wipe()  # the last value counts
                _require_same_kind(was_kept, found[name], line)
        require_plain(data, {variable.name for variable in found.values() if variable.stored})
    except EnvFileError as error:
        for variable in found.values():
            variable.wipe()
        raise InputFileError(f"{called}, {error}") from None
    return list(found.values())


def _require_same_kind(was_kept: bool, variable: _Variable, line: int) -> None:
    """Of a value and a reference one would count, and the value would stay in the file of references."""
    if variable.chosen and variable.kept != was_kept:
        raise EnvFileError(
            line,
            f"{variable.name} is given as a value and as a reference; take the one out that is not meant",
        )


def _is_chosen(name: str, options: Namespace) -> bool:
    """Whether the options have this variable imported; patterns are those of a shell."""
    among = not options.only or any(fnmatchcase(name, pattern) for pattern in options.only)
    return among and not any(fnmatchcase(name, pattern) for pattern in getattr(options, "except"))


def _store(options: Namespace, stored: Sequence[_Variable]) -> _Done:
    puts = {variable.path: _put(variable) for variable in stored}
    done = _Done(written=[], unchanged=[])
    changed: list[_Variable] = []
    with unlocked(options) as agent:
        there = _paths(agent, stored)
        for variable in stored:
            version = _unchanged_version(agent, variable) if variable.path in there else None
            if version is None:
                changed.append(variable)
            else:
                done.unchanged.append({"path": variable.path, "version": version})
        results = agent.perform_all([puts[variable.path] for variable in changed])
        try:
            for result in shown(results, len(changed), "importing"):
                path = changed[len(done.written)].path
                done.written.append({"path": path, "version": result.version})
        except KeyholtError as error:
            place = changed[min(len(done.written), len(changed) - 1)].place
            written = f"written: {len(done.written)} of {len(changed)}"
            raise placed(error, f"{written}; {place}") from None
    return done


def _paths(agent: Client, stored: Sequence[_Variable]) -> Container[str]:
    """Where there may be a secret already: of many variables a listing tells it, of few it would not pay."""
    if len(stored) < LISTED_FROM:
        return {variable.path for variable in stored}
    folder = stored[0].path.removesuffix(stored[0].name)
    return {info.path for info in agent.list(folder)}


def _unchanged_version(agent: Client, variable: _Variable) -> int | None:
    """The secret's newest version, if it has this value already."""
    try:
        with agent.get(variable.path) as secret:
            return secret.version if hmac.compare_digest(secret.view, variable.value) else None
    except NotFoundError:
        return None  # there is none, or it is deleted, destroyed or expired
    except KeyholtError as error:
        raise placed(error, f"nothing was written; {variable.place}") from None


def _put(variable: _Variable) -> Invocation[SecretPutResult]:
    # Imported here: help does without it.
    from keyholt.invocations import secret_put

    try:
        return secret_put(variable.path, variable.value)
    except KeyholtError as error:
        raise placed(error, variable.place) from None


COMMANDS: Final = (
    Command(
        words=("import",),
        help="Writes every variable of an environment file as the secret PREFIX/NAME; one that has "
        "its value already is left as it is.",
        run=import_file,
        json="an object: imported and unchanged (arrays of objects: path, version), kept (the names that "
        "were references already); with --dry-run: would_import (the paths), kept",
        parameters=(
            Parameter(names=("FILE",), help="the file; - is standard input", kind=Kind.FILE),
            Parameter(names=("PREFIX",), help="the path to write below", kind=Kind.SECRET),
            Parameter(
                names=("--references",),
                help="write an environment file of references here, for `run --env-file`; "
                "- is standard output (default: none)",
                kind=Kind.FILE,
                metavar="OUT",
            ),
            Parameter(
                names=("--only",),
                help="import variables of this name only, or pattern like DB_*; may be given several times "
                "(default: all)",
                metavar="NAME",
                many=True,
            ),
            Parameter(
                names=("--except",),
                help="leave variables of this name, or pattern, where and as they are (default: none)",
                metavar="NAME",
                many=True,
            ),
            Parameter(
                names=("--dry-run",),
                help="only say what would be written, were none of it there already",
                kind=Kind.FLAG,
            ),
        ),
    ),
)
