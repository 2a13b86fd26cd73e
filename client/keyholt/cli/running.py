"""The commands that put values in the place of references: run, inject.

- All values are fetched before anything is started or written: what fails, fails without half of it done.
- In a text for `inject`, a reference in double braces, ``{{ keyholt://PATH }}``, may have any path; a bare
  one ends before the first character that is not a letter, a digit or one of ``. _ ~ @ + / -``, so that
  quotes, commas and colons around it stay what they are. A ``?`` or ``#`` behind it is part of it.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from keyholt.address import VARIABLE, choose
from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.connection import patience
from keyholt.cli.descriptors import STANDARD, STDOUT
from keyholt.cli.environment import assemble, fill, references, replace_process
from keyholt.cli.errors import TerminalError, UsageError, placed
from keyholt.cli.harmless import INSIST, harmless
from keyholt.cli.offering import unlocked
from keyholt.cli.outfile import whole_file
from keyholt.cli.output import counted, say, show, write_error
from keyholt.reference import IN_BRACES, IN_TEXT, parse, write
from keyholt.secret import Secret
from keyholt_protocol.errors import KeyholtError

__all__ = ["COMMANDS"]

MAX_TYPED: Final = 16 * 1024 * 1024
"""Bytes of a text that is typed or pasted."""

OWNER_ONLY: Final = 0o600

Wanted = tuple[str, int | None, str | None]

_REFERENCE: Final = re.compile(IN_BRACES + b"|" + IN_TEXT)


def run(options: Namespace) -> int:
    """The command ``run``."""
    command: list[str] = options.cmd[1:] if options.cmd[:1] == ["--"] else options.cmd
    if not command:
        raise UsageError("there is no command; write `keyholt run --env-file FILE -- CMD`")
    environment = assemble(options.env_file, os.environb)
    wanted = references(environment)
    values = _fetch(options, list(wanted.values()), [f"the variable {os.fsdecode(name)}" for name in wanted])
    filled: dict[bytes, bytearray] = {}
    for name, secret in zip(wanted, values, strict=True):
        with secret:
            filled[name] = bytearray(secret.view)
    if options.share_agent:
        # Imported here: few ask for it, and it brings the whole client, which help does without.
        from keyholt.cli.sharing import share

        shared = share(choose(options.address), patience(options))
        environment[VARIABLE.encode()] = str(shared).encode()
    if options.mask:
        # Imported here, as above: most commands take the process's place.
        from keyholt.cli.masked_run import run_masked

        return run_masked(command, environment, filled, as_json=options.json)
    for name, value in filled.items():
        fill(environment, name, value)
        value[:] = bytes(len(value))
    status, problem = replace_process(command, environment)
    write_error(problem, as_json=options.json, code="command_failed")
    return status


def inject(options: Namespace) -> int:
    """The command ``inject``."""
    _require_another_file(options.in_file, options.out_file)
    text = _read_text(options.in_file)
    found = list(_REFERENCE.finditer(text))
    places = [f"line {_line_number(text, match)}" for match in found]
    wanted = [_parsed(match, place) for match, place in zip(found, places, strict=True)]
    with whole_file(options.out_file, OWNER_ONLY) as write_file:
        result = _substitute(text, found, _fetch(options, wanted, places))
        try:
            if options.out_file in {None, STANDARD} and os.isatty(STDOUT) and not harmless(result):
                raise TerminalError(f"the result {INSIST}, or write it with --out-file")
            write_file(result)
        finally:
            result[:] = bytes(len(result))
    if options.out_file in {None, STANDARD}:
        return 0
    if options.json:
        show({"file": options.out_file, "references": len(found)})
    else:
        say(f"{options.out_file}: {counted(len(found), 'reference')} replaced")
    return 0


def _require_another_file(template: str | None, out: str | None) -> None:
    """Refuse to write the result over the template, under whatever name, which would be lost."""
    if out is None or out == STANDARD:
        return
    try:
        read = os.fstat(0) if template is None or template == STANDARD else os.stat(template)
        same = os.path.samestat(read, os.stat(out))
    except OSError:
        return  # one of them is not there; if that is wrong, it is said where it is opened
    if same:
        raise UsageError(f"{out} is the template itself, which would be lost; write to another file")


def _parsed(match: re.Match[bytes], place: str) -> Wanted:
    try:
        return parse((match[1] or match[2]).decode())
    except KeyholtError as error:
        raise placed(error, place) from None


def _fetch(options: Namespace, wanted: Sequence[Wanted], places: Sequence[str]) -> list[Secret]:
    """The secrets in order; an error says at which place the one stands that could not be had."""
    if not wanted:
        return []
    # Imported here: help does without it.
    from keyholt.invocations import secret_get

    values: list[Secret] = []
    asked = (secret_get(write(*one)) for one in wanted)
    with unlocked(options) as agent:
        try:
            values.extend(agent.perform_all(asked))
        except KeyholtError as error:
            raise placed(error, places[min(len(values), len(places) - 1)]) from None
    return values


def _line_number(text: bytes, match: re.Match[bytes]) -> int:
    return text.count(b"\n", 0, match.start()) + 1


def _substitute(text: bytes, found: Sequence[re.Match[bytes]], values: Sequence[Secret]) -> bytearray:
    """The text with values in the place of references, the caller's to wipe; the secrets are wiped.

    Its memory is taken once: a bytearray that grows moves, and leaves in freed memory what it held before.
    """
    between = len(text) - sum(match.end() - match.start() for match in found)
    result = bytearray(between + sum(map(len, values)))
    rest = memoryview(result)
    end = 0
    for match, secret in zip(found, values, strict=True):
        with secret:
            for part in (memoryview(text)[end : match.start()], secret.view):
                rest[: len(part)] = part
                rest = rest[len(part) :]
        end = match.end()
    rest[:] = memoryview(text)[end:]
    return result


def _read_text(file: str | None) -> bytes:
    file = None if file == STANDARD else file
    if file is None and sys.stdin is None:
        raise UsageError("standard input is closed; give --in-file FILE")
    with open(0 if file is None else file, "rb", closefd=file is not None) as stream:
        if stream.isatty():
            # Imported here: on a terminal only. A line that is typed there would be cut by the kernel.
            from keyholt.cli.terminal import ask_lines

            return bytes(ask_lines("The text, not shown", MAX_TYPED, instead="give --in-file FILE"))
        return stream.read()


_ENV_FILE: Final = Parameter(
    names=("--env-file",),
    help="read variables from this file too; a later one overrides (default: none)",
    kind=Kind.FILE,
    metavar="FILE",
    many=True,
)

COMMANDS: Final = (
    Command(
        words=("run",),
        help="Runs a command in whose environment every variable that is a reference, as a whole, has its "
        "secret's value. A reference is keyholt://PATH, with ?version=N, #FIELD of a JSON object, or both "
        "after it; inside other text it stays.",
        run=run,
        json="nothing of its own but errors",
        parameters=(
            _ENV_FILE,
            Parameter(
                names=("--mask",),
                help="replace the values of references in what the command prints by <masked>, also in "
                "base64, percent-encoded and JSON-escaped; values of fewer than 4 bytes are not",
                kind=Kind.FLAG,
            ),
            Parameter(
                names=("--share-agent",),
                help="let the command inherit a way to the agent (fd:N), for a sandbox without sockets",
                kind=Kind.FLAG,
            ),
            Parameter(names=("CMD",), help="the command and its arguments, after --", kind=Kind.COMMAND),
        ),
    ),
    Command(
        words=("inject",),
        help="Replaces the references in a text by their values: keyholt://PATH, also with ?version=N or "
        "#FIELD or both after it, or, for any path, {{ keyholt://PATH }}.",
        run=inject,
        json="an object, with --out-file only: file, references (how many)",
        parameters=(
            Parameter(
                names=("-i", "--in-file"),
                help="the text (default, or -: standard input)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
            Parameter(
                names=("-o", "--out-file"),
                help="write here, readable by the owner only (default, or -: standard output)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
        ),
    ),
)
