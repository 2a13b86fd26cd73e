"""`edit` with editors of a few lines: what they see, what comes of it, that nothing is left or lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import keyholt
from keyholt_protocol.limits import MAX_VALUE
from tests.client.conftest import PASSPHRASE, RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

Editor = Callable[[str], dict[str, str]]


@pytest.fixture
def editor(agent: RunningAgent, tmp_path: Path) -> Editor:
    """Makes an editor of a shell script, whose first argument is the file; gives the variables for it."""

    def make(script: str) -> dict[str, str]:
        program = tmp_path / "an editor"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        variables = {"VISUAL": f"'{program}'", "EDITOR": "/nowhere", "OUT": str(tmp_path)}
        return {**environment(), **variables, "KEYHOLT_ADDRESS": agent.address}

    return make


def latest(agent: RunningAgent, path: str) -> tuple[int, bytes]:
    """The newest version, and its value."""
    with keyholt.connect(agent.address) as client, client.get(path) as secret:
        return secret.version, secret.bytes


def test_what_was_edited_is_the_next_version(agent: RunningAgent, editor: Editor) -> None:
    """With its labels; the newline that an editor adds is no part of a value that had none, and of one that
    had it is. A path without a value begins empty, and a text that is as it was makes no version.
    """
    with keyholt.connect(agent.address) as client:
        client.put("edit/plain", "one", labels={"owner": "shop"})
        client.put("edit/lines", "one\n")
        client.put("edit/gone", "one")
        client.delete("edit/gone")
    add = editor('echo " two" >> "$1"')
    assert agent.cli("edit", "edit/plain", env=add).out == b"edit/plain: version 2\n"
    assert latest(agent, "edit/plain") == (2, b"one two")
    with keyholt.connect(agent.address) as client:
        assert client.get("edit/plain").labels == {"owner": "shop"}
    agent.cli("edit", "edit/lines", env=add)
    assert latest(agent, "edit/lines") == (2, b"one\n two\n")
    for path, version in (("edit/new", 1), ("edit/gone", 2)):
        assert agent.cli("edit", path, env=add).status == 0
        assert latest(agent, path) == (version, b" two")
    replace = editor('printf "a\\nb\\n" > "$1.tmp" && mv "$1.tmp" "$1"')
    assert json.loads(agent.cli("--json", "edit", "edit/text", env=replace).out) == {
        "path": "edit/text", "version": 1, "changed": True
    }  # fmt: skip
    assert latest(agent, "edit/text") == (1, b"a\nb\n")
    for script in ("true", 'echo >> "$1"'):
        same = agent.cli("edit", "edit/plain", env=editor(script))
        assert same.out == b"edit/plain: unchanged, so there is no new version\n"


@pytest.mark.parametrize(
    "script,said",
    [
        ("exit 3", "ended with status 3"),
        ('echo x > "$1"; kill -KILL $$', "ended with status 137"),
        ('rm "$1"', "has removed the file"),
        (': > "$1"', "the value is empty"),
    ],
)
def test_an_editor_that_fails(agent: RunningAgent, editor: Editor, script: str, said: str) -> None:
    """However it ends, nothing is written, and it is said how it ended."""
    with keyholt.connect(agent.address) as client:
        client.put("edit/fail", "kept")
    version = latest(agent, "edit/fail")[0]
    failed = agent.cli("edit", "edit/fail", env=editor(script))
    assert (failed.status, said in failed.err) == (1, True), failed.err
    assert latest(agent, "edit/fail") == (version, b"kept")


def test_what_is_no_text_is_not_edited(agent: RunningAgent, editor: Editor) -> None:
    """An editor would change it."""
    with keyholt.connect(agent.address) as client:
        client.put("edit/binary", b"a\0b")
    assert agent.cli("edit", "edit/binary", env=editor("touch $OUT/ran")).status == 2


def test_where_the_text_is(agent: RunningAgent, editor: Editor, tmp_path: Path) -> None:
    """In memory, the user's alone, as are temporary files; others find nothing there, and nothing is left
    when both the editor and `keyholt` have been killed.
    """
    with keyholt.connect(agent.address) as client:
        client.put("edit/db.json", "seen-4b1e")
    script = """
exec > "$OUT/report"
echo "$$ $PPID $1"; pwd; echo $TMPDIR
stat -c %a .; stat -f -c %T .; stat -c %a "$1"; cat "$1"; echo; ulimit -c
mkfifo "$OUT/wait"; mv "$OUT/report" "$OUT/reported"; read line < "$OUT/wait"
"""
    mounts = Path("/proc/mounts").read_text()
    with Terminal([KEYHOLT, "edit", "edit/db.json"], editor(script)) as screen:
        for _ in range(600):
            if (tmp_path / "reported").exists():
                break
            screen.look()
        first, folder, temporary, *rest = (tmp_path / "reported").read_text().splitlines()
        own, parent, file = first.split()
        assert (Path(file).name, str(Path(file).parent), temporary) == ("db.json", folder, folder)
        assert rest == ["700", "tmpfs", "600", "seen-4b1e", "0"]
        assert not Path(file).exists()
        assert Path("/proc/mounts").read_text() == mounts
        os.kill(int(parent), signal.SIGKILL)
        os.kill(int(own), signal.SIGKILL)
        screen.end()
    assert not Path(file).exists()
    assert Path("/proc/mounts").read_text() == mounts
    assert latest(agent, "edit/db.json") == (1, b"seen-4b1e")


def test_a_conflict_loses_nothing(agent: RunningAgent, editor: Editor, tmp_path: Path) -> None:
    """Somebody else's version is not overwritten unseen: the text is edited again, the other's beside it."""
    with keyholt.connect(agent.address) as client:
        client.put("edit/both", "one")
    script = f"""
if [ -e "$OUT/again" ]; then
    cat "$1" "$1.newest" > "$OUT/seen"; echo " and theirs" >> "$1"
else
    touch "$OUT/again"; echo mine >> "$1"; printf theirs | {KEYHOLT} put edit/both
fi
"""
    with Terminal([KEYHOLT, "edit", "edit/both"], editor(script)) as screen:
        screen.wait_for("version 1 was expected")
        screen.wait_for("gives it up: ")
        assert latest(agent, "edit/both") == (2, b"theirs")
        screen.type("\r")
        assert screen.end() == 0
    assert (tmp_path / "seen").read_text() == "oneminetheirs"
    assert latest(agent, "edit/both") == (3, b"onemine and theirs")


def test_a_conflict_can_be_given_up(agent: RunningAgent, editor: Editor) -> None:
    """With Ctrl-D, or where nobody can be asked: it ends with the conflict."""
    with keyholt.connect(agent.address) as client:
        client.put("edit/up", "one")
    script = f'echo mine >> "$1"; printf theirs | {KEYHOLT} put edit/up'
    with Terminal([KEYHOLT, "edit", "edit/up"], editor(script)) as screen:
        screen.wait_for("gives it up: ")
        screen.type("\x04")
        assert screen.end() == 1
    assert latest(agent, "edit/up") == (2, b"theirs")
    assert "was expected" in agent.cli("edit", "edit/up", env=editor(script)).err


def test_what_cannot_be_fetched_after_a_conflict(agent: RunningAgent, editor: Editor) -> None:
    """An agent that is locked by then is said, and what was typed can be edited again and written later."""
    with keyholt.connect(agent.address) as client:
        client.put("edit/later", "one")
    script = f"""
if [ ! -e "$OUT/first" ]; then
    touch "$OUT/first"; printf theirs | {KEYHOLT} put edit/later
fi
echo mine >> "$1"
"""
    with Terminal([KEYHOLT, "edit", "edit/later"], editor(script)) as screen:
        place = screen.wait_for("gives it up: ")
        with keyholt.connect(agent.address) as client:
            client.lock()
            try:
                screen.type("\r")
                place = screen.wait_for("not written: ", after=place)
                place = screen.wait_for("gives it up: ", after=place)
                assert b"the agent is locked" in screen.shown
            finally:
                client.unlock(passphrase=PASSPHRASE)
        screen.type("\r")
        screen.wait_for("gives it up: ", after=place)  # a conflict as before
        screen.type("\r")
        assert screen.end() == 0
    assert latest(agent, "edit/later") == (3, b"onemineminemine")


def test_an_expiry_that_passes_meanwhile(agent: RunningAgent, editor: Editor) -> None:
    """It is not passed on as a new one, which could never be written."""
    with keyholt.connect(agent.address) as client:
        client.put("edit/expiring", "one", expires=datetime.now(UTC) + timedelta(seconds=1))
    script = f"""
for _ in $(seq 200); do {KEYHOLT} get edit/expiring > /dev/null 2>&1 || break; done
printf later > "$1"
"""
    done = agent.cli("edit", "edit/expiring", env=editor(script))
    assert (done.status, done.out) == (0, b"edit/expiring: version 2\n"), done.err
    assert latest(agent, "edit/expiring") == (2, b"later")


def test_a_text_that_is_too_long(agent: RunningAgent, editor: Editor, tmp_path: Path) -> None:
    """It is refused whole: at the next turn the editor has all of it again."""
    size = 2 * MAX_VALUE + 1
    script = f"""
if [ ! -s "$1" ]; then head -c {size} /dev/zero > "$1"; exit; fi
stat -c %s "$1" > "$OUT/size"; echo short > "$1"
"""
    with Terminal([KEYHOLT, "edit", "edit/long"], editor(script)) as screen:
        screen.wait_for("gives it up: ")
        screen.type("\r")
        assert screen.end() == 0
    assert int((tmp_path / "size").read_text()) == size
    assert latest(agent, "edit/long") == (1, b"short")


def test_an_editor_that_is_stopped(agent: RunningAgent, editor: Editor) -> None:
    """The shell has its prompt back, as after Ctrl-Z in any program, and `fg` goes on with both."""
    variables = {**editor('kill -STOP $$; echo on >> "$1"'), "PS1": "$ "}
    with Terminal(["dash", "-i"], variables) as screen:
        screen.wait_for("$ ")
        screen.type(f"{KEYHOLT} edit edit/stopped\n")
        place = screen.wait_for("Stopped")
        screen.wait_for("$ ", after=place)
        screen.type("fg\n")
        screen.wait_for("version 1", after=place)
    assert latest(agent, "edit/stopped") == (1, b"on")
