"""``run``: references become values in the environment of a command, or it is not started."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

import keyholt
from tests.client.conftest import RunningAgent, environment
from tests.support.programs import KEYHOLT

CANARY = "canary-77aa"


@pytest.fixture(autouse=True)
def secrets(agent: RunningAgent) -> None:
    """The secrets that these tests refer to."""
    with keyholt.connect(agent.address) as client:
        if client.list("run/"):
            return
        client.put("run/a", "old")
        client.put("run/a", CANARY)
        client.put("run/nul", b"a\0b")
        client.put("run/bytes", b"\xff")
        client.put("run/with space", "spaced")


def test_run_fills_the_environment(agent: RunningAgent, tmp_path: Path) -> None:
    """References in a file and in the inherited environment become values; other texts stay as they are."""
    file, later = tmp_path / "a.env", tmp_path / "b.env"
    file.write_text("A=keyholt://run/a\nB=keyholt://run/a?version=1\nC=see keyholt://run/a\nD=first\n")
    later.write_text("D=second\n")
    script = 'echo "$A|$B|$C|$D|$E|$F"'
    ran = agent.cli(
        "run", "--env-file", str(file), "--env-file", str(later), "--", "sh", "-c", script,
        env={"E": "keyholt://run/with space", "F": "plain"},
    )  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.decode() == f"{CANARY}|old|see keyholt://run/a|second|spaced|plain\n"


def test_a_file_that_can_be_read_once(agent: RunningAgent) -> None:
    """Variables from a pipe, as of a shell's `<(...)`, are not lost where the fast path gives up: the command
    does not start without them. The counter-check: with a reference that is there, it has it.
    """
    for path, status, out in (("none", 3, b""), ("a", 0, CANARY.encode())):
        reader, writer = os.pipe()
        with open(writer, "wb") as file:
            file.write(f"X=keyholt://run/{path}\n".encode())
        words = ("run", "--env-file", f"/dev/fd/{reader}", "--", "sh", "-c", 'printf %s "$X"')
        ran = agent.cli(*words, pass_fds=(reader,))
        os.close(reader)
        assert (ran.status, ran.out) == (status, out), ran.err


def test_the_last_mention_of_a_variable_counts(agent: RunningAgent, tmp_path: Path) -> None:
    """A literal over a reference is not fetched, and needs no agent; a reference over a literal is."""
    reference, literal = tmp_path / "r.env", tmp_path / "l.env"
    reference.write_text("A=keyholt://run/a\n")
    literal.write_text("A=keyholt://run/none\nA=literal\n")
    files = ("--env-file", str(reference), "--env-file", str(literal))
    away = {"KEYHOLT_ADDRESS": "/nowhere/s"}
    assert agent.cli("run", *files, "--", "sh", "-c", "echo $A", env=away).out == b"literal\n"
    inherited = {**away, "A": "keyholt://run/none"}
    assert agent.cli("run", *files[2:], "--", "sh", "-c", "echo $A", env=inherited).out == b"literal\n"
    ran = agent.cli("run", *files[2:], *files[:2], "--", "sh", "-c", "echo $A")
    assert ran.out.decode() == f"{CANARY}\n"


def test_run_gives_the_commands_status_and_restores_its_signals(agent: RunningAgent) -> None:
    """The command replaces the process: its status is the status, and it dies of a closed pipe as usual."""
    assert agent.cli("run", "--", "sh", "-c", "exit 42").status == 42
    ignored = agent.cli("run", "--", "sh", "-c", "grep SigIgn /proc/self/status").out.split()[1]
    assert int(ignored, 16) & (1 << 12) == 0  # SIGPIPE


@pytest.mark.parametrize(
    "reference,status,said",
    [
        ("keyholt://run/none", 3, "X: "),
        ("keyholt://run/nul", 1, "the variable X: its secret holds a NUL byte"),
        ("keyholt://run/bytes", 1, "the variable X: its secret is not UTF-8"),
        ("keyholt://", 1, "the variable X: a reference is written"),
        ("keyholt://a?v=1", 1, "the variable X: a reference is written"),
        ("keyholt://run/a?version=99", 3, "X: "),
    ],
)
def test_run_starts_nothing_when_a_value_is_missing(
    agent: RunningAgent, tmp_path: Path, reference: str, status: int, said: str
) -> None:
    """One reference that cannot be had, and the command is not started; the variable is named, no value
    is.
    """
    file, mark = tmp_path / "a.env", tmp_path / "started"
    file.write_text(f"A=keyholt://run/a\nX={reference}\n")
    ran = agent.cli("run", "--env-file", str(file), "--", "touch", str(mark))
    assert (ran.status, said in ran.err, CANARY in ran.err, mark.exists()) == (status, True, False, False)


def test_run_without_a_command_to_run(agent: RunningAgent, tmp_path: Path) -> None:
    """127 for a command that is not there, 126 for one that cannot be run, 2 for none, 1 for a bad file."""
    (tmp_path / "file").write_text("x")
    assert agent.cli("run", "--", "no-such-command-anywhere").status == 127
    assert agent.cli("run", "--", str(tmp_path / "file")).status == 126
    assert agent.cli("run", "--").status == 2
    assert agent.cli("run", "--env-file", str(tmp_path / "none"), "--", "true").status == 1
    (tmp_path / "bad.env").write_text(f"A=1\n{CANARY}\n")
    bad = agent.cli("run", "--env-file", str(tmp_path / "bad.env"), "--", "true")
    assert (bad.status, "bad.env, line 2" in bad.err, CANARY in bad.err) == (1, True, False)


def test_run_needs_no_agent_without_references(agent: RunningAgent) -> None:
    """With nothing to fetch nobody is asked; with something, an absent agent is status 6."""
    away = {"KEYHOLT_ADDRESS": "/nowhere/s"}
    assert agent.cli("run", "--", "true", env=away).status == 0
    assert agent.cli("run", "--", "true", env={**away, "A": "keyholt://run/a"}).status == 6


def test_run_passes_options_of_the_command_on(agent: RunningAgent) -> None:
    """What follows ``--`` is the command's, whatever it looks like; what comes before it is `run`'s own."""
    away = {"KEYHOLT_ADDRESS": "/nowhere/s", "A": "keyholt://run/a"}
    own = agent.cli("run", "--address", agent.address, "--", "sh", "-c", "echo $A --json", env=away)
    assert own.out.decode() == f"{CANARY} --json\n"
    refused = agent.cli("run", "--json", "--", "true", env=away)
    assert (refused.status, refused.err[:10]) == (6, '{"error": ')
    assert agent.cli("run", "--", "echo", "--json", "-n", "--", "x").out == b"--json -n -- x\n"


TEMPLATE = b"""{"a": "keyholt://run/a", "b": keyholt://run/a?version=1, "c": {{ keyholt://run/with space }}}
host: keyholt://run/a:8080\r\n\xff raw {{keyholt://run/nul}}
"""
FILLED = b'{"a": "canary-77aa", "b": old, "c": spaced}\nhost: canary-77aa:8080\r\n\xff raw a\0b\n'


def test_inject(agent: RunningAgent, tmp_path: Path) -> None:
    """References in a text become values; everything else, bytes that are no text too, stays as it is."""
    assert agent.cli("inject", stdin=TEMPLATE).out == FILLED
    template, out = tmp_path / "in", tmp_path / "out"
    template.write_bytes(TEMPLATE)
    out.write_text("old")
    out.chmod(0o644)
    done = agent.cli("inject", "-i", str(template), "-o", str(out))
    assert (done.status, out.read_bytes()) == (0, FILLED)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert CANARY.encode() not in done.out


def test_inject_follows_no_link(agent: RunningAgent, tmp_path: Path) -> None:
    """A symbolic link in the place of the file is refused, and what it leads to stays as it is."""
    (tmp_path / "target").write_text("old")
    (tmp_path / "out").symlink_to(tmp_path / "target")
    done = agent.cli("inject", "-o", str(tmp_path / "out"), stdin=b"keyholt://run/a")
    assert (done.status, "is a symbolic link" in done.err) == (2, True)
    assert (tmp_path / "target").read_text() == "old"


def test_inject_says_which_file_it_cannot_write(agent: RunningAgent, tmp_path: Path) -> None:
    """A place that is not there is found out before the values are fetched, and named as it was given."""
    out = str(tmp_path / "none" / "out")
    done = agent.cli("inject", "-o", out, stdin=b"keyholt://run/none")
    assert (done.status, done.err) == (1, f"keyholt: {out}: No such file or directory\n")


def test_inject_writes_nothing_when_a_value_is_missing(agent: RunningAgent, tmp_path: Path) -> None:
    """One reference that cannot be had: status 3, the line named, the old file untouched, nothing left beside
    it.
    """
    out = tmp_path / "out"
    out.write_text("old")
    done = agent.cli("inject", "-o", str(out), stdin=b"keyholt://run/a\nkeyholt://run/none\n")
    assert (done.status, done.err[:15], out.read_text()) == (3, "keyholt: line 2", "old")
    assert list(tmp_path.iterdir()) == [out]
    assert agent.cli("inject", stdin=b"keyholt://run/a keyholt://run/none").out == b""


def test_commands_are_looked_for_as_a_shell_does(agent: RunningAgent, tmp_path: Path) -> None:
    """Each folder of PATH in turn: one that is none, one without it, one where it may not be run, one where
    it may. An empty name in PATH is the working directory. What is there and cannot be run is said, rather
    than that it is nowhere.
    """
    first, second, empty = (tmp_path / name for name in ("first", "second", "empty"))
    for folder in (first, second, empty):
        folder.mkdir()
    (first / "command").write_text("no program")
    (second / "command").write_text("#!/bin/sh\necho second $#\n")
    (second / "command").chmod(0o755)
    (tmp_path / "here").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "here").chmod(0o755)
    for options in ((), ("--timeout", "60")):  # the fast path and the full one

        def run(path: str, *words: str, options: tuple[str, ...] = options) -> tuple[int, bytes]:
            done = agent.cli(*options, "run", "--", *words, env={"PATH": path}, cwd=tmp_path)
            return done.status, done.out

        folders = f"{tmp_path}/none:{first}/command:{empty}:{first}:{second}"
        assert run(folders, "command", "a", "") == (0, b"second 2\n")
        assert run(f"{first}:{empty}", "command")[0] == 126
        assert run(f"{empty}:{tmp_path}/none", "command")[0] == 127
        assert run(f"{empty}:", "here") == (0, b"here\n")
        assert run(str(empty), "here")[0] == 127
        assert run(str(empty), "./here") == (0, b"here\n")


@pytest.mark.parametrize(
    "text", ["keyholt://inj/a?v=1", "keyholt://inj/a#", "keyholt://inj/a?version=1x", "keyholt://inj/a?"]
)
def test_a_reference_that_is_none_is_refused_whole(agent: RunningAgent, text: str) -> None:
    """No value is given with the rest of it behind; the line is named, and how a reference is written."""
    agent.cli("put", "inj/a", stdin=b"value")
    refused = agent.cli("inject", stdin=f"first\n<{text}>\n".encode())
    assert (refused.status, refused.out) == (2, b"")
    assert refused.err == (
        "keyholt: line 2: a reference is written keyholt://PATH, with ?version=N or #FIELD or both after "
        "it, in this order; in a field %25 stands for %\n"
    )
    around = agent.cli("inject", stdin=b"keyholt://inj/a?version=1, (keyholt://inj/a): {{keyholt://inj/a}}?")
    assert around.out == b"value, (value): value?"


def test_a_template_is_not_overwritten(agent: RunningAgent, tmp_path: Path) -> None:
    """Under no name, nor as standard input; another place that cannot be written is named as it was given."""
    agent.cli("put", "inj/a", stdin=b"value")
    template, other = tmp_path / "t", tmp_path / "hard"
    template.write_text("keyholt://inj/a")
    other.hardlink_to(template)
    for words in (("-i", "t", "-o", "t"), ("-i", "t", "-o", "./hard"), ("-i", "hard", "-o", str(template))):
        refused = agent.cli("inject", *words, cwd=tmp_path)
        assert (refused.status, "is the template itself" in refused.err) == (2, True)
    command = f"{KEYHOLT} inject -o t <t"
    done = subprocess.run(
        ["sh", "-c", command],
        env={**environment(), "KEYHOLT_ADDRESS": agent.address},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert template.read_text() == "keyholt://inj/a"
    nowhere = agent.cli("inject", "-i", "t", "-o", "/nodir/x", cwd=tmp_path)
    assert nowhere.err == "keyholt: /nodir/x: No such file or directory\n"
    assert agent.cli("inject", "-i", "t", "-o", "new", cwd=tmp_path).status == 0
    assert (tmp_path / "new").read_text() == "value"
