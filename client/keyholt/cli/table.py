"""The commands of ``keyholt``, in the order of the help, and what holds for all of them.

- The parser, the help, the shell completions and the table in docs/operations.md are made from here.
- Each module of commands lists its own (``COMMANDS``), beside what carries them out.
"""

from __future__ import annotations

from typing import Final

from keyholt.cli import (
    agent,
    completion,
    diffing,
    doctor,
    editing,
    exporting,
    finding,
    generating,
    helping,
    importing,
    moving,
    running,
    secrets,
    slots,
)
from keyholt.cli.command import Command, Kind, Parameter

__all__ = ["COMMANDS", "EPILOG", "FIRST_WORDS", "GLOBAL", "GROUPS", "choices"]

MAX_TIMEOUT: Final = 1_000_000
"""Seconds, eleven days: what is waited for longer, poll(2) waits for without end (``keyholt.polling``)."""

GLOBAL: Final = (
    Parameter(
        names=("--address",),
        help="where the agent is: a path, unix:PATH or fd:N (default: $KEYHOLT_ADDRESS, or a usual place)",
        kind=Kind.FILE,
        metavar="ADDR",
    ),
    Parameter(
        names=("--timeout",),
        help="seconds that the agent may take for an answer, 0: as long as it takes; for connecting it has 10"
        " at most (default: 60)",
        kind=Kind.NUMBER,
        bounds=(0, MAX_TIMEOUT),
        metavar="N",
    ),
    Parameter(names=("--json",), help="print results and errors as JSON", kind=Kind.FLAG),
)
"""Options of every command, before it or after it; of `run` and its command, before the ``--``."""

EPILOG: Final = """\
where the agent is:
  --address, else $KEYHOLT_ADDRESS, else $XDG_RUNTIME_DIR/keyholt/agent.sock
  (/run/user/UID without that variable) if it exists, else
  /run/keyholt/agent.sock
  written as a path, unix:PATH, or fd:N: a descriptor that was inherited, from
  `keyholt run --share-agent` or another program
  it must be run by root, by you or, at /run/keyholt/agent.sock, by the owner of
  that directory; unix:PATH?uid=N and fd:N?uid=N say that it is run by uid N

exit status:
  0  done
  1  failed
  2  the command line, or a name in it, cannot be right
  3  not found
  4  the agent is locked, or has no store yet
  5  denied
  6  the agent is not reachable, or who answers there is not trusted
  `keyholt run` gives its command's; 126: it cannot be run, 127: there is none

An error with --json is {"error": {"code", "message", "retryable", "details"}} on standard
error.
"""
"""What the help says last."""

GROUPS: Final = {"slot": "Manages the keyslots: the ways to unlock the store."}
"""First words of two-word commands, with their help."""

COMMANDS: Final[tuple[Command, ...]] = (
    *agent.COMMANDS,
    *secrets.COMMANDS,
    *generating.COMMANDS,
    *editing.COMMANDS,
    *finding.COMMANDS,
    *diffing.COMMANDS,
    *moving.COMMANDS,
    *running.COMMANDS,
    *importing.COMMANDS,
    *exporting.COMMANDS,
    *slots.COMMANDS,
    *doctor.COMMANDS,
    *completion.COMMANDS,
    *helping.COMMANDS,
)

FIRST_WORDS: Final = tuple(dict.fromkeys(command.words[0] for command in COMMANDS))
"""What may follow ``keyholt``."""


def choices(parameter: Parameter) -> tuple[str, ...]:
    """The words that a parameter may be, for completion; none where it may be anything."""
    return FIRST_WORDS if parameter.kind is Kind.TOPIC else parameter.choices
