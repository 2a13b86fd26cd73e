"""Writes docs/commands.md: every command of ``keyholt``, from the table that its parser is made from.

Usage: ``python tools/command_reference.py [--check]``; with ``--check`` it writes nothing, and exits with 1
when docs/commands.md is not what it would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "protocol")]

from keyholt.cli.command import Command, Kind, Parameter  # noqa: E402
from keyholt.cli.table import COMMANDS, GLOBAL  # noqa: E402
from tools.generated import keep  # noqa: E402

__all__ = ["main", "reference", "usage_of"]

TARGET: Final = ROOT / "docs/commands.md"

HEAD: Final = """\
# Commands of `keyholt`

<!-- docs/commands.md is made from the table of commands (client/keyholt/cli/table.py) by `make generate`. -->

`keyholt COMMAND --help` says the same. Exit statuses, and what holds for all of `--json`, are in
[operations.md](operations.md#exit-statuses-of-keyholt).

Options of every command, before it or after it:

"""


def main(arguments: list[str]) -> int:
    """Write the page, or check it; gives the exit status."""
    return keep("command_reference.py", arguments, lambda: {TARGET: reference()})


def reference() -> str:
    """The whole page."""
    return HEAD + "\n".join([*map(_parameter, GLOBAL), "", *map(_command, COMMANDS)])


def _command(command: Command) -> str:
    usage = " ".join(["keyholt", *command.words, *usage_of(command)])
    lines = [f"## `{' '.join(command.words)}`", "", command.help, "", "```", usage, "```", ""]
    lines += [*map(_parameter, command.parameters), ""] if command.parameters else []
    return "\n".join([*lines, f"With `--json`: {command.json}.", ""])


def usage_of(command: Command) -> Iterator[str]:
    """What follows the words of a command, as they are typed."""
    for parameter in command.parameters:
        text = parameter.names[0]
        if parameter.is_option and parameter.kind is not Kind.FLAG:
            text += f" {parameter.metavar}"
        if parameter.kind is Kind.COMMAND:
            yield f"-- {text} [ARGUMENT]..."
        elif parameter.optional or (parameter.is_option and not parameter.required):
            yield f"[{text}]" + ("..." if parameter.many else "")
        else:
            yield text


def _parameter(parameter: Parameter) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.names)
    return f"- {names}: {parameter.help}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
