"""Completion for fish: ``keyholt completion fish | source``, or a file in ``~/.config/fish/completions``.

- fish quotes what it inserts. A path that looks like an option is not offered.
"""

from __future__ import annotations

from typing import Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.table import COMMANDS, FIRST_WORDS, GLOBAL, GROUPS, choices

__all__ = ["script"]

_HEAD: Final = """\
# fish completion for keyholt, made by `keyholt completion fish`
function __keyholt_secrets
    set -l address
    set -l words (commandline -opc)
    set -l prefix (string unescape -- (commandline -ct); or commandline -ct)
    if set -l at (contains -i -- --address $words)
        set address --address $words[(math $at + 1)]
    end
    keyholt $address list -- $prefix 2>/dev/null | string match -v -- '-*'
end
complete -c keyholt -f
"""

_ACTIONS: Final = {
    Kind.SECRET: "-a '(__keyholt_secrets)'",
    Kind.FILE: "-F",
    Kind.COMMAND: "-a '(__fish_complete_subcommand --fcs-skip=2)'",
}


def script() -> str:
    """The script as text."""
    lines = [_HEAD.rstrip("\n")]
    none = f"not __fish_seen_subcommand_from {' '.join(FIRST_WORDS)}"
    helps = {command.words[0]: command.help for command in COMMANDS} | GROUPS
    lines += [_line(none, f"-a {word} -d {_quote(helps[word])}") for word in FIRST_WORDS]
    for parameter in GLOBAL:
        lines.append(f"complete -c keyholt {_option(parameter)}")
    for command in COMMANDS:
        lines += _command(command)
    return "\n".join(lines) + "\n"


def _command(command: Command) -> list[str]:
    seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.words)
    lines: list[str] = []
    if len(command.words) > 1:
        group, word = command.words
        others = " ".join(other.words[1] for other in COMMANDS if other.words[0] == group)
        fresh = f"__fish_seen_subcommand_from {group}; and not __fish_seen_subcommand_from {others}"
        lines.append(_line(fresh, f"-a {word} -d {_quote(command.help)}"))
    for parameter in command.parameters:
        if parameter.is_option:
            lines.append(_line(seen, _option(parameter)))
        elif words := choices(parameter):
            lines.append(_line(seen, f"-a '{' '.join(words)}'"))
        elif parameter.kind in _ACTIONS:
            lines.append(_line(seen, _ACTIONS[parameter.kind]))
    return lines


def _line(condition: str, rest: str) -> str:
    return f"complete -c keyholt -n {_quote(condition)} {rest}"


def _option(parameter: Parameter) -> str:
    names = " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in parameter.names
    )
    takes = {Kind.FLAG: "", Kind.FILE: " -r -F"}.get(parameter.kind, " -x")
    return f"{names} -d {_quote(parameter.help)}{takes}"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
