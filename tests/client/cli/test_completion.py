"""Completion, tried in the real shells: type the beginning of a path, press Tab, run what stands there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import keyholt
from keyholt.cli.shells import bash, fish, zsh
from keyholt.cli.table import COMMANDS, GROUPS
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

START = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOAD = {
    "bash": "source <(keyholt completion bash); echo loa''ded\n",
    "zsh": "autoload -Uz compinit; compinit -D -u; source <(keyholt completion zsh); echo loa''ded\n",
    "fish": "keyholt completion fish | source; echo loa''ded\n",
}


@pytest.fixture
def shell_environment(agent: RunningAgent, tmp_path: Path) -> dict[str, str]:
    """An environment in which ``keyholt`` is a command, with a few secrets to complete."""
    with keyholt.connect(agent.address) as client:
        for path in (
            "shell/only",
            "shell:x=1/colon",
            "shell/me@host.example/at",
            "shell/two/a",
            "shell/two/b",
        ):
            client.put(path, f"value of {path[-5:]}")
    command = tmp_path / "keyholt"
    command.symlink_to(KEYHOLT)
    clean = environment()
    path = f"{tmp_path}:{clean['PATH']}"
    return {
        **clean,
        "PATH": path,
        "KEYHOLT_ADDRESS": agent.address,
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }


@pytest.mark.parametrize("shell", START)
def test_tab_completes(shell_environment: dict[str, str], shell: str) -> None:
    """Commands, two-word commands and paths of secrets, with ``:``, ``=`` and ``@`` too, are completed."""
    with Terminal(START[shell], shell_environment) as screen:
        screen.type(LOAD[shell])
        place = screen.wait_for("loaded")
        for typed, shown in (
            ("keyholt get shell/on\t", "value of /only"),
            ("keyholt get shell:x=1/c\t", "value of colon"),
            ("keyholt get shell/me@h\t", "value of le/at"),
            ("keyholt get shell/me@host.ex\t", "value of le/at"),
            ("keyholt help hist\t", "usage: keyholt history"),
            ("keyholt history --json shell/on\t", '"latest": '),
            ("keyholt slot li\t", "argon2id"),
            ("keyholt --json stat\t", '"state": "unlocked"'),
        ):
            screen.type(f"{typed}\n")
            place = screen.wait_for(shown, after=place)


EVIL = (
    "evil0/$(touch pwned)",
    "evil1/`touch pwned`",
    "evil2/'; touch pwned; '",
    'evil3/"; touch pwned; "',
    "evil4/a b\\c;touch pwned&",
    'evil5/x\' $(touch pwned) "`touch pwned`" {a,b} ~ * [x] <pwned >pwned | ! ^ %',
    "evil6/--address=/x",
    "evil7/Zoë $HOME",
    "--address=/trap",
)

STUB = """#!/bin/sh
case $1 in
completion) cat scripts/$2 ;;
list) cat paths ;;
get) printf 'got <%s>\\n' "$2" ;;
esac
"""
"""Says which path it was given; a real `keyholt` would take fifty times as long."""


@pytest.fixture
def stub_environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a ``keyholt`` that lists hostile paths."""
    command, scripts = tmp_path / "bin" / "keyholt", tmp_path / "scripts"
    command.parent.mkdir()
    command.write_text(STUB)
    command.chmod(0o755)
    (tmp_path / "paths").write_text("".join(f"{path}\n" for path in EVIL))
    scripts.mkdir()
    for shell, script in (("bash", bash.script), ("zsh", zsh.script), ("fish", fish.script)):
        (scripts / shell).write_text(script())
    clean = environment()
    path = f"{command.parent}:{clean['PATH']}"
    return {**clean, "PATH": path, "PWD": str(tmp_path), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}


def unsafe_in_bash(path: str, quote: str) -> bool:
    """Whether bash has no way of finishing this path inside these quotes; it is not offered there."""
    return bool(quote) and (quote in path or (quote == '"' and "!" in path))


@pytest.mark.parametrize("shell", START)
def test_a_path_is_never_run(stub_environment: dict[str, str], shell: str, tmp_path: Path) -> None:
    """Whatever a path holds, completing it, quoted or not, names it exactly and runs nothing of it; one that
    would be taken for an option is not offered.
    """
    with Terminal(START[shell], stub_environment, cwd=tmp_path) as screen:
        screen.type(LOAD[shell])
        place = screen.wait_for("loaded")
        for quote in ("", "'", '"'):
            for path in EVIL[:-1]:
                if shell != "bash" or not unsafe_in_bash(path, quote):
                    screen.type(f"keyholt get {quote}{path[:6]}\t\n")
                    place = screen.wait_for(f"got <{path}>", after=place)
        screen.type("keyholt get \t\t")
        screen.type("\x15echo do''ne\n")  # Ctrl-U: what stood there is dropped
        screen.wait_for("done\r", after=place)
        assert b"trap" not in screen.shown[place:]
    assert not list(tmp_path.rglob("*pwned*"))


@pytest.mark.parametrize("shell,script", [("bash", bash.script), ("zsh", zsh.script), ("fish", fish.script)])
def test_scripts_are_well_formed_and_whole(tmp_path: Path, shell: str, script: object) -> None:
    """Each shell parses its script, and every command and option of the table is in it."""
    assert callable(script)
    text = script()
    file = tmp_path / "script"
    file.write_text(text)
    subprocess.run([shell, "-n", str(file)], check=True, timeout=20)
    for command in COMMANDS:
        assert all(word in text for word in command.words)
        for parameter in command.parameters:
            if parameter.is_option:
                assert all(name.lstrip("-") in text for name in parameter.names)
    assert all(group in text for group in GROUPS)


def test_zsh_shows_the_help_as_it_is(stub_environment: dict[str, str], tmp_path: Path) -> None:
    """What stands beside a command or an option is its sentence, with its colons and apostrophes."""
    with Terminal(START["zsh"], stub_environment, cwd=tmp_path) as screen:
        screen.type(f"stty columns 300; {LOAD['zsh']}")
        place = screen.wait_for("loaded")
        for typed, shown in (
            ("keyholt \t", GROUPS["slot"]),
            ("keyholt --\t", " a path, unix:PATH or fd:N (default: $KEYHOLT_ADDRESS, or a usual place)"),
            ("keyholt init --\t", "the keyslot's name (default: passphrase)"),
            ("keyholt slot \t", "Adds a keyslot with a passphrase of its own."),
        ):
            screen.type(typed)
            place = screen.wait_for(shown, after=place)
            screen.type("\x15")  # Ctrl-U: what stands there is dropped


def test_bash_offers_options_and_files(shell_environment: dict[str, str], tmp_path: Path) -> None:
    """In bash, options of the command at hand are offered, and nothing of another one."""
    script = tmp_path / "s"
    script.write_text(bash.script())

    def offered(line: str) -> set[str]:
        ask = f'COMP_LINE="{line}" COMP_POINT={len(line)}; _keyholt'
        code = f'source {script}; {ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            ["bash", "-c", code], env=shell_environment, capture_output=True, check=True, timeout=20
        )
        return set(done.stdout.decode().split())

    assert offered("keyholt put --") == {
        "--file",
        "--multiline",
        "--allow-empty",
        "--trim",
        "--if-version",
        "--no-expiry",
        "--no-labels",
        "--label",
        "--expires",
        "--address",
        "--timeout",
        "--json",
        "--help",
    }
    assert offered("keyholt put shell/two/") == {"shell/two/a", "shell/two/b"}
    assert offered("keyholt put shell/two/a shell/") == set()
    assert offered("keyholt completion ") == {"bash", "zsh", "fish"}
    assert offered("keyholt slot ") == {"list", "add", "remove", "change"}
    assert offered("keyholt --address /nowhere get shell/") == set()
    assert "doctor" in offered("keyholt ")
