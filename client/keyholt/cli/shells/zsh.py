"""Completion for zsh: put ``keyholt completion zsh`` into ``_keyholt`` on the ``fpath``, or source it.

- zsh quotes what it inserts (``compadd`` without ``-Q``); quotes in what was typed are undone by ``(Q)``,
  which evaluates nothing. A path that looks like an option is not offered.
"""

from __future__ import annotations

from typing import Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.table import COMMANDS, GLOBAL, GROUPS, choices

__all__ = ["script"]

_TEMPLATE: Final = """\
#compdef keyholt
# zsh completion for keyholt, made by `keyholt completion zsh`
_keyholt_secrets() {{
    local -a address found
    [[ -n ${{opt_args[--address]}} ]] && address=(--address "${{(Q)opt_args[--address]}}")
    found=("${{(@f)$(keyholt $address list -- "${{(Q)PREFIX}}" 2>/dev/null)}}")
    found=("${{(@)found:#-*}}")
    [[ -n $found ]] && compadd -a found
}}
_keyholt() {{
    local curcontext=$curcontext state line
    local -A opt_args
    _arguments -C -A '-*' {global_options} '1:command:->command' '*::arguments:->arguments'
    case $state in
    command)
        local -a commands=({commands})
        _describe command commands
        ;;
    arguments)
        case $line[1] in
        {cases}
        esac
        ;;
    esac
}}
{groups}
if [[ $funcstack[1] == _keyholt ]]; then _keyholt "$@"; else compdef _keyholt keyholt; fi
"""

_GROUP: Final = """\
_keyholt_{group}() {{
    local curcontext=$curcontext state line
    _arguments -C -A '-*' '1:command:->command' '*::arguments:->arguments'
    case $state in
    command)
        local -a commands=({commands})
        _describe command commands
        ;;
    arguments)
        case $line[1] in
        {cases}
        esac
        ;;
    esac
}}
"""

_ACTIONS: Final = {
    Kind.SECRET: "_keyholt_secrets",
    Kind.FILE: "_files",
    Kind.COMMAND: "_normal",
}


def script() -> str:
    """The script as text."""
    single = [command for command in COMMANDS if len(command.words) == 1]
    described = [(command.words[0], command.help) for command in single] + list(GROUPS.items())
    cases = [_case(command) for command in single] + [f"{group}) _keyholt_{group} ;;" for group in GROUPS]
    return _TEMPLATE.format(
        global_options=" ".join(spec for parameter in GLOBAL for spec in _specs(parameter)),
        commands=_described(described),
        cases="\n        ".join(cases),
        groups="".join(map(_group, GROUPS)),
    )


def _group(group: str) -> str:
    members = [command for command in COMMANDS if command.words[0] == group]
    return _GROUP.format(
        group=group,
        commands=_described([(command.words[1], command.help) for command in members]),
        cases="\n        ".join(map(_case, members)),
    )


def _described(pairs: list[tuple[str, str]]) -> str:
    return " ".join(_quote(f"{word}:{_plain(text)}") for word, text in pairs)


def _case(command: Command) -> str:
    specs = [spec for parameter in (*command.parameters, *GLOBAL) for spec in _specs(parameter)]
    return f"{command.words[-1]}) _arguments {' '.join(specs)} ;;"


def _specs(parameter: Parameter) -> list[str]:
    words = choices(parameter)
    action = f"({' '.join(words)})" if words else _ACTIONS.get(parameter.kind, "")
    if parameter.kind is Kind.COMMAND:
        return [_quote(f"*::{parameter.names[0]}:{action}")]
    if not parameter.is_option:
        many = "*" if parameter.many else ""
        return [_quote(f"{many}:{parameter.names[0]}:{action}")]
    takes = "" if parameter.kind is Kind.FLAG else f":{parameter.metavar}:{action}"
    many = "*" if parameter.many else ""
    return [_quote(f"{many}{name}[{_plain(parameter.help)}]{takes}") for name in parameter.names]


def _plain(text: str) -> str:
    """Help with the characters escaped that ``_arguments`` and ``_describe`` give a meaning."""
    for special in "\\[]:":
        text = text.replace(special, f"\\{special}")
    return text


def _quote(text: str) -> str:
    """A word of the script, whatever it holds; zsh has no escape inside of single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"
