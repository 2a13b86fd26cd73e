"""Completion for bash: ``source <(keyholt completion bash)``; needs no bash-completion package.

Readline breaks words at ``:`` and ``=`` as well, which may stand in paths. So the words are taken from the
line itself, and what readline regards as done already is cut off each answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from keyholt.cli.parser import SHELLS
from keyholt.cli.table import COMMANDS, GLOBAL, GROUPS, Command, Kind, Parameter

__all__ = ["script"]

_TEMPLATE: Final = """\
# bash completion for keyholt, made by `keyholt completion bash`
_keyholt() {{
    local line=${{COMP_LINE:0:COMP_POINT}} words word cur command='' position=0 index address=() takes=''
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    cur=${{words[-1]}}
    for ((index = 1; index < ${{#words[@]}} - 1; index++)); do
        word=${{words[index]}}
        if [[ $word == -- ]]; then
            position=99
        elif [[ $word == -* ]]; then
            case $word in
            {valued})
                [[ $word == --address ]] && address=(--address "${{words[index + 1]}}")
                ((index++))
                [[ $index -eq $((${{#words[@]}} - 1)) ]] && takes=$word
                ;;
            esac
        elif [[ -z $command || $command == @({groups}) ]]; then
            command+="${{command:+ }}$word"
        else
            ((position++))
        fi
    done
    COMPREPLY=()
    if [[ -n $takes ]]; then
        case $takes in
        {file_options}) compopt -o default ;;
        esac
        return
    fi
    if [[ $cur == -* && $position -ne 99 ]]; then
        case $command in
        {options}
        *) _keyholt_words '{global_options} --help --version' ;;
        esac
        return
    fi
    case $command/$position in
    {positions}
    */99) compopt -o default ;;
    esac
}}
_keyholt_words() {{
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}}
_keyholt_secrets() {{
    local path done=${{cur%"${{cur##*[:=]}}"}}
    while IFS= read -r path; do
        [[ $path == "$cur"* ]] && COMPREPLY+=("$(printf '%q' "${{path#"$done"}}")")
    done < <(keyholt "${{address[@]}}" list "$cur" 2>/dev/null)
}}
complete -F _keyholt keyholt
"""


def script() -> str:
    """The script as text."""
    parameters = [*GLOBAL, *(parameter for command in COMMANDS for parameter in command.parameters)]
    valued = [
        parameter for parameter in parameters if parameter.is_option and parameter.kind is not Kind.FLAG
    ]
    return _TEMPLATE.format(
        valued="|".join(_names(valued)),
        file_options="|".join(_names(parameter for parameter in valued if parameter.kind is Kind.FILE)),
        groups="|".join(GROUPS),
        global_options=" ".join(_names(GLOBAL)),
        options="\n        ".join(map(_options, COMMANDS)),
        positions="\n    ".join(
            [*_first_words(), *(line for command in COMMANDS for line in _positions(command))]
        ),
    )


def _names(parameters: Iterable[Parameter]) -> list[str]:
    return list(dict.fromkeys(name for parameter in parameters for name in parameter.names))


def _options(command: Command) -> str:
    own = [parameter for parameter in command.parameters if parameter.is_option]
    return f"'{' '.join(command.words)}') _keyholt_words '{' '.join(_names([*own, *GLOBAL]))} --help' ;;"


def _first_words() -> list[str]:
    first = " ".join(dict.fromkeys(command.words[0] for command in COMMANDS))
    lines = [f"/0) _keyholt_words '{first}' ;;"]
    for group in GROUPS:
        second = " ".join(command.words[1] for command in COMMANDS if command.words[0] == group)
        lines.append(f"'{group}/0') _keyholt_words '{second}' ;;")
    return lines


def _positions(command: Command) -> list[str]:
    actions = {
        Kind.SECRET: "_keyholt_secrets",
        Kind.FILE: "compopt -o default",
        Kind.SHELL: f"_keyholt_words '{' '.join(SHELLS)}'",
    }
    positionals = [parameter for parameter in command.parameters if not parameter.is_option]
    return [
        f"'{' '.join(command.words)}/{index}') {actions[parameter.kind]} ;;"
        for index, parameter in enumerate(positionals)
        if parameter.kind in actions
    ]
