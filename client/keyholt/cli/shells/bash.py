"""Completion for bash: ``source <(keyholt completion bash)``; needs no bash-completion package.

- Readline breaks words at ``:``, ``=`` and ``@`` as well, unless ``COMP_WORDBREAKS`` says otherwise; they may
  stand in paths. So the words are taken from the line itself, quotes and backslashes undone without
  evaluating anything, and what readline regards as done already is cut off each answer.
- A path may hold whatever is visible, ``$(...)`` too. Each answer is quoted for the place where it will
  stand: by ``printf %q``, or for the quotes that are open.
- Not offered are a path that looks like an option, one that holds the very quote that is open, and in double
  quotes one with ``!``, which they do not keep from being expanded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.table import COMMANDS, FIRST_WORDS, GLOBAL, GROUPS, choices

__all__ = ["script"]

_TEMPLATE: Final = r"""# bash completion for keyholt, made by `keyholt completion bash`
_keyholt_split() {{
    local line=$1 rest char token='' begun=''
    quote=''
    words=()
    while [[ -n $line ]]; do
        char=${{line:0:1}} rest=${{line:1}}
        case $quote$char in
        [[:space:]])
            [[ -n $begun ]] && words+=("$token")
            token='' begun=''
            line=$rest
            continue
            ;;
        \' | \") quote=$char ;;
        \'\' | \"\") quote='' ;;
        \\ | \"\\)
            if [[ -z $quote || ${{rest:0:1}} == [\"\\\$\`] ]]; then
                char=${{rest:0:1}} rest=${{rest:1}}
            fi
            token+=$char
            ;;
        *) token+=$char ;;
        esac
        begun=1
        line=$rest
    done
    words+=("$token")
}}
_keyholt() {{
    local line=${{COMP_LINE:0:COMP_POINT}} words quote word cur index
    local command='' position=0 address=() takes=''
    _keyholt_split "$line"
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
    local path rest char breaks='' done=''
    for char in : = @; do
        [[ $COMP_WORDBREAKS == *$char* ]] && breaks+=$char
    done
    [[ -z $quote && -n $breaks ]] && done=${{cur%"${{cur##*[$breaks]}}"}}
    done=${{done%@}} # a word begins with its @, and after its : and =
    while IFS= read -r path; do
        [[ $path == "$cur"* && $path != -* ]] || continue
        rest=${{path#"$done"}}
        case $quote in
        \') [[ $rest == *\'* ]] && continue ;;
        \")
            [[ $rest == *[\"!]* ]] && continue
            rest=${{rest//\\/\\\\}}
            rest=${{rest//\$/\\\$}}
            rest=${{rest//\`/\\\`}}
            ;;
        *) rest=$(printf '%q' "$rest") ;;
        esac
        COMPREPLY+=("$rest")
    done < <(keyholt "${{address[@]}}" list -- "$cur" 2>/dev/null)
}}
complete -F _keyholt keyholt
"""

_ACTIONS: Final = {Kind.SECRET: "_keyholt_secrets", Kind.FILE: "compopt -o default"}


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
    lines = [f"/0) _keyholt_words '{' '.join(FIRST_WORDS)}' ;;"]
    for group in GROUPS:
        second = " ".join(command.words[1] for command in COMMANDS if command.words[0] == group)
        lines.append(f"'{group}/0') _keyholt_words '{second}' ;;")
    return lines


def _positions(command: Command) -> list[str]:
    lines: list[str] = []
    positionals = (parameter for parameter in command.parameters if not parameter.is_option)
    for index, parameter in enumerate(positionals):
        action = _ACTIONS.get(parameter.kind)
        if words := choices(parameter):
            action = f"_keyholt_words '{' '.join(words)}'"
        if action is not None:
            lines.append(f"'{' '.join(command.words)}/{index}') {action} ;;")
    return lines
