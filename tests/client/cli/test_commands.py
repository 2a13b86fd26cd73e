"""The commands as a user runs them: real processes of ``keyholt`` against a real agent."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.conftest import PASSPHRASE, ROOT, RunningAgent, environment

CANARY = "canary-c4d1"


def test_a_secrets_life(agent: RunningAgent) -> None:
    """put, get, list, history, rm, undelete and destroy, with what they print and their statuses."""
    put = agent.cli("put", "cli/a", "--label", "env=prod", "--expires", "90d", stdin=CANARY.encode())
    assert (put.status, put.out) == (0, b"cli/a: version 1\n")
    assert agent.cli("put", "cli/a", "--if-version", "1", stdin=b"two").out == b"cli/a: version 2\n"
    conflict = agent.cli("put", "cli/a", "--if-version", "1", stdin=b"three")
    assert conflict.status == 1
    assert agent.cli("get", "cli/a").out == b"two"
    assert agent.cli("get", "cli/a", "--version", "1").out == CANARY.encode()
    assert agent.cli("list", "cli/").out == b"cli/a\n"
    assert b"env=prod" in agent.cli("history", "cli/a").out
    assert agent.cli("rm", "cli/a").status == 0
    assert agent.cli("get", "cli/a").status == 3
    assert b"deleted" in agent.cli("history", "cli/a").out
    assert agent.cli("undelete", "cli/a").out == b"cli/a: back, version 2\n"
    assert agent.cli("destroy", "cli/a", "--version", "1").status == 0
    assert agent.cli("get", "cli/a", "--version", "1").status == 3
    assert agent.cli("destroy", "cli/a").status == 2


def test_values_go_through_as_they_are(agent: RunningAgent, tmp_path: Path) -> None:
    """A megabyte of bytes, an empty value and one with newlines come back unchanged, from a file and from a
    pipe.
    """
    for name, value in (("big", os.urandom(1024 * 1024)), ("empty", b""), ("lines", b"\n\r\n\0\n")):
        (tmp_path / name).write_bytes(value)
        assert agent.cli("put", f"raw/{name}", "--file", str(tmp_path / name)).status == 0
        assert agent.cli("get", f"raw/{name}").out == value
        assert agent.cli("put", f"raw/{name}", stdin=value).status == 0
        assert (
            agent.cli("--address", agent.address, "get", f"raw/{name}", env={"KEYHOLT_ADDRESS": "/x"}).out
            == value
        )
    too_large = tmp_path / "large"
    too_large.write_bytes(bytes(16 * 1024 * 1024 + 1))
    result = agent.cli("put", "raw/large", "--file", str(too_large))
    assert result.status == 1
    assert "at most 16777216" in result.err


def test_json_has_stable_shapes(agent: RunningAgent) -> None:
    """Each result is one line of JSON with the documented fields; the option may stand before or after."""
    put = json.loads(agent.cli("--json", "put", "json/a", "--label", "k=v", stdin=b"text").out)
    assert put.keys() == {"path", "version", "created"}
    assert json.loads(agent.cli("get", "json/a", "--json").out) == {
        "path": "json/a",
        "version": 1,
        "created": put["created"],
        "expires": None,
        "labels": {"k": "v"},
        "encoding": "utf-8",
        "value": "text",
    }
    agent.cli("put", "json/a", stdin=b"\xff\0")
    got = json.loads(agent.cli("--json", "get", "json/a").out)
    assert (got["encoding"], base64.b64decode(got["value"])) == ("base64", b"\xff\0")
    (listed,) = json.loads(agent.cli("--json", "list", "json/").out)
    assert listed.keys() == {"path", "version", "created", "expires", "labels"}
    history = json.loads(agent.cli("--json", "history", "json/a").out)
    assert history.keys() == {"latest", "deleted", "versions"}
    assert history["versions"][0].keys() == {"version", "created", "destroyed", "expires", "labels"}
    assert json.loads(agent.cli("--json", "rm", "json/a").out) == {"path": "json/a", "version": 2}
    assert json.loads(agent.cli("--json", "status").out)["state"] == "unlocked"
    assert json.loads(agent.cli("--json", "slot", "list").out)[0].keys() == {"name", "kind", "created", "kdf"}


@pytest.mark.parametrize(
    "words,status,code",
    [
        (["get", "errors/none"], 3, "not_found"),
        (["get", "errors//none"], 2, "invalid_request"),
        (["--address", "/nowhere/s", "get", "a"], 6, "agent_unreachable"),
        (["--address", "tls://h:1", "get", "a"], 1, "unsupported"),
        (["get"], 2, "usage"),
        (["frobnicate"], 2, "usage"),
        (["put", "a", "--label", "x"], 2, "usage"),
        (["put", "a", "--file", "/nowhere/f"], 1, "failed"),
        (["unlock"], 2, "usage"),
        (["unlock", "--passphrase-fd", "77"], 2, "usage"),
    ],
)
def test_errors(agent: RunningAgent, words: list[str], status: int, code: str) -> None:
    """An error is one sentence on standard error, or one line of JSON there; the status is as fixed."""
    plain = agent.cli(*words)
    assert plain.status == status
    assert plain.err.startswith("keyholt: ")
    assert plain.err.count("\n") == 1
    assert plain.out == b""
    error = json.loads(agent.cli("--json", *words).err)["error"]
    assert error.keys() == {"code", "message", "retryable"}
    assert error["code"] == code


def test_init_lock_unlock_and_slots(own_agent: RunningAgent, tmp_path: Path) -> None:
    """The agent's states, and the keyslots, by command; statuses 4 before a store and while locked."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(PASSPHRASE + b"\n")
    two.write_bytes(b"two")
    first = ("--passphrase-file", str(one))
    uninitialised = own_agent.cli("get", "a")
    assert (uninitialised.status, "keyholt init" in uninitialised.err) == (4, True)
    assert b"created the store" in own_agent.cli("init", *first).out
    assert own_agent.cli("init", *first).status == 1
    assert own_agent.cli("lock").out == b"locked\n"
    locked = own_agent.cli("get", "a")
    assert (locked.status, "keyholt unlock" in locked.err) == (4, True)
    assert own_agent.cli("unlock", "--passphrase-file", str(two)).status == 1
    read, write = os.pipe()
    os.write(write, PASSPHRASE)
    os.close(write)
    assert own_agent.cli("unlock", "--passphrase-fd", str(read), pass_fds=[read]).status == 0
    os.close(read)
    new = ("--new-passphrase-file", str(two))
    assert own_agent.cli("slot", "add", "passphrase", "--name", "second", *first, *new).status == 0
    assert own_agent.cli("slot", "add", "token", "--name", "third", *first, *new).status == 2
    assert own_agent.cli("slot", "remove", "passphrase", "--passphrase-file", str(two)).status == 0
    assert own_agent.cli("slot", "remove", "second", "--passphrase-file", str(two)).status == 1
    change = ("--passphrase-file", str(two), "--new-passphrase-file", str(one))
    assert own_agent.cli("slot", "change", "second", *change).status == 0
    assert own_agent.cli("slot", "list").out.startswith(b"second  passphrase")
    own_agent.cli("lock")
    assert own_agent.cli("unlock", "--slot", "second", *first).status == 0


def test_doctor_says_what_is_well_and_what_is_not(own_agent: RunningAgent, tmp_path: Path) -> None:
    """With a healthy agent all is well; an open directory or a missing agent is wrong, with a remedy."""
    well = own_agent.cli("--json", "doctor")
    report = json.loads(well.out)
    assert (well.status, report["ok"]) == (0, True)
    subjects = {finding["subject"] for finding in report["findings"]}
    assert subjects >= {"socket", "agent", "protocol", "locked memory", "core dumps", "store", "memfd_secret"}
    (own_agent.directory / "state").chmod(0o755)
    (own_agent.directory / "run").chmod(0o777)
    wrong = own_agent.cli("doctor")
    assert wrong.status == 1
    assert wrong.out.decode().count("WRONG") == 2
    assert b"-> chmod 0700" in wrong.out
    assert b"-> chmod go-w" in wrong.out
    absent = own_agent.cli("--address", str(tmp_path / "none"), "doctor")
    assert absent.status == 1
    assert b"there is no socket" in absent.out
    assert b"memfd_secret" in absent.out


def test_import_and_references(agent: RunningAgent, tmp_path: Path) -> None:
    """Every variable of a file becomes a secret; the file of references gives `run` the same environment."""
    env, references = tmp_path / ".env", tmp_path / "app.env"
    env.write_text(
        f'URL=postgres://u:p@h/db?x=1\nKEY="-----BEGIN-----\n{CANARY}\n"\nEMPTY=\nNAME=Zoë\nREF=keyholt://imp/URL\n'
    )
    done = agent.cli("--json", "import", str(env), "imp", "--references", str(references))
    summary = json.loads(done.out)
    assert [entry["path"] for entry in summary["imported"]] == ["imp/URL", "imp/KEY", "imp/EMPTY", "imp/NAME"]
    assert summary["kept"] == ["REF"]
    assert done.err == ""  # no progress bar where there is no terminal
    assert CANARY not in references.read_text()
    ran = agent.cli("run", "--env-file", str(references), "--", "env", "-0")
    variables = dict(pair.split("=", 1) for pair in ran.out.decode().split("\0") if pair)
    assert variables["KEY"] == f"-----BEGIN-----\n{CANARY}\n"
    assert (variables["EMPTY"], variables["NAME"]) == ("", "Zoë")
    assert variables["URL"] == variables["REF"] == "postgres://u:p@h/db?x=1"
    bad = tmp_path / "bad.env"
    bad.write_text(f"A=1\nB='{CANARY}\n")
    refused = agent.cli("import", str(bad), "imp")
    assert (refused.status, "line 2" in refused.err, CANARY in refused.err) == (1, True, False)


def test_output_that_cannot_be_written(agent: RunningAgent) -> None:
    """A full disk, a closed pipe and a closed standard output are failures, never a success without the
    value.
    """
    agent.cli("put", "full/a", stdin=CANARY.encode())
    env = {
        **environment(),
        "KEYHOLT_ADDRESS": agent.address,
        "PY": sys.executable,
        "KH": str(ROOT / "client/bin/keyholt"),
    }

    def shell(script: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=False, timeout=60)

    for command in ("get full/a", "--json get full/a", "list full/"):
        full = shell(f"$PY $KH {command} >/dev/full")
        assert full.returncode == 1, command
        assert b"No space left" in full.stderr
        closed = shell(f"$PY $KH {command} >&-")
        assert closed.returncode == 1
        assert b"standard output is closed" in closed.stderr
        assert CANARY.encode() not in closed.stderr
        pipe = shell(f"set -o pipefail; (sleep 0.1; $PY $KH {command}) | true")
        assert (pipe.returncode, pipe.stderr) == (1, b"")


def test_help_and_version_are_results(agent: RunningAgent) -> None:
    """Help goes to standard output with status 0, for every command."""
    assert agent.cli("--version").out.startswith(b"keyholt")
    for words in (["--help"], ["get", "--help"], ["slot", "add", "--help"]):
        shown = agent.cli(*words)
        assert (shown.status, shown.out[:6]) == (0, b"usage:")
