"""The commands as a user runs them: real processes of ``keyholt`` against a real agent."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from keyholt import address, polling
from keyholt.cli import checks
from keyholt.cli.dispatch import run
from keyholt.cli.table import COMMANDS, MAX_TIMEOUT
from keyholt_agent.memory import arena, syscalls
from keyholt_agent.transport.unix import listener
from tests.client.conftest import PASSPHRASE, Result, RunningAgent, environment
from tests.support.programs import KEYHOLT
from tests.support.users import without_privileges
from tests.support.wire import WireClient

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
        assert agent.cli("put", f"raw/{name}", "--allow-empty", "--file", str(tmp_path / name)).status == 0
        assert agent.cli("get", f"raw/{name}").out == value
        assert agent.cli("put", f"raw/{name}", "--allow-empty", stdin=value).status == 0
        assert (
            agent.cli("--address", agent.address, "get", f"raw/{name}", env={"KEYHOLT_ADDRESS": "/x"}).out
            == value
        )
    too_large = tmp_path / "large"
    too_large.write_bytes(bytes(16 * 1024 * 1024 + 1))
    result = agent.cli("put", "raw/large", "--file", str(too_large))
    assert result.status == 1
    assert "more than 16777216 bytes" in result.err


@pytest.fixture
def command(
    agent: RunningAgent, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """``keyholt`` in this process, for what neither depends on its start nor reads standard input."""
    monkeypatch.setenv("KEYHOLT_ADDRESS", agent.address)

    def run_here(*words: str) -> Result:
        status = run(words)
        out, err = capfdbinary.readouterr()
        return Result(status, out, err.decode())

    return run_here


def test_json_has_stable_shapes(agent: RunningAgent, command: Callable[..., Result], tmp_path: Path) -> None:
    """Each result is one line of JSON with the documented fields; the option may stand before or after."""
    (tmp_path / "text").write_bytes(b"text")
    (tmp_path / "bytes").write_bytes(b"\xff\0")
    put = json.loads(
        command("--json", "put", "json/a", "--label", "k=v", "--file", str(tmp_path / "text")).out
    )
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
    command("put", "json/a", "--file", str(tmp_path / "bytes"))
    got = json.loads(command("--json", "get", "json/a").out)
    assert (got["encoding"], base64.b64decode(got["value"])) == ("base64", b"\xff\0")
    (listed,) = json.loads(command("--json", "list", "json/").out)
    marks = {"created", "expires", "labels", "expired", "destroyed", "damaged"}
    assert listed.keys() == {"path", "version", *marks}
    history = json.loads(command("--json", "history", "json/a").out)
    assert history.keys() == {"latest", "deleted", "versions"}
    assert history["versions"][0].keys() == {"version", *marks}
    assert json.loads(command("--json", "rm", "json/a").out) == {"path": "json/a", "version": 2}
    assert json.loads(command("--json", "status").out)["state"] == "unlocked"
    assert json.loads(command("--json", "slot", "list").out)[0].keys() == {"name", "kind", "created", "kdf"}


def test_listings_show_what_is_not_given_out(
    agent: RunningAgent, command: Callable[..., Result], tmp_path: Path
) -> None:
    """Whoever looks at a listing sees which secrets have expired, and which versions are destroyed."""
    with WireClient(Path(agent.address)) as wire:  # no client of ours writes what has expired already
        wire.call("secret.put", b"v", path="marks/past", expires=981158400).expect()
    (tmp_path / "v").write_bytes(b"v")
    command("put", "marks/gone", "--file", str(tmp_path / "v"))
    command("destroy", "marks/gone", "--version", "1")
    gone, past = command("list", "--long", "marks/").out.decode().splitlines()
    assert gone.endswith("destroyed")
    assert "expired 2001-02-0" in past
    assert command("history", "marks/gone").out.decode().rstrip().endswith("destroyed")


@pytest.mark.parametrize(
    "words,status,code",
    [
        (["get", "errors/none"], 3, "not_found"),
        (["get", "errors//none"], 2, "invalid_request"),
        (["--address", "/nowhere/s", "get", "a"], 6, "agent_unreachable"),
        (["--address", "tls://h:1", "get", "a"], 2, "invalid_request"),
        (["--address", "tcp://127.0.0.1:1", "status"], 2, "invalid_request"),
        (["get"], 2, "usage"),
        (["frobnicate"], 2, "usage"),
        (["put", "a", "--label", "x"], 2, "usage"),
        (["put", "a", "--file", "/nowhere/f"], 1, "failed"),
        (["unlock"], 2, "usage"),
        (["unlock", "--passphrase-fd", "77"], 2, "usage"),
    ],
)
def test_errors(
    agent: RunningAgent,
    words: list[str],
    status: int,
    code: str,
    *,
    command: Callable[..., Result],
) -> None:
    """An error is one sentence on standard error, or one line of JSON there; the status is as fixed."""
    plain = agent.cli(*words)
    assert plain.status == status
    assert plain.err.startswith("keyholt: ")
    assert plain.err.count("\n") == 1
    assert plain.out == b""
    # `unlock` would ask on the terminal of whoever runs the tests.
    again = agent.cli("--json", *words) if words[0] == "unlock" else command("--json", *words)
    assert again.status == status
    error = json.loads(again.err)["error"]
    assert error.keys() == {"code", "message", "retryable", "details"}
    assert error["code"] == code


def test_a_socket_that_may_not_be_opened(own_agent: RunningAgent) -> None:
    """A socket whose permissions keep this user out is ``denied``, status 5, as by an agent that does not
    serve them; what to do is said.
    """
    os.chmod(own_agent.address, 0)
    done = subprocess.run(
        [*without_privileges(), KEYHOLT, "--json", "status"],
        env={**environment(), "KEYHOLT_ADDRESS": own_agent.address},
        capture_output=True,
        check=False,
        timeout=30,
    )
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"], error["retryable"]) == (5, "denied", False)
    assert error["message"].endswith("run as the agent's user, or join the group of the socket")


def test_init_lock_unlock_and_slots(own_agent: RunningAgent, tmp_path: Path) -> None:
    """The agent's states, and the keyslots, by command; statuses 4 before a store and while locked."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(PASSPHRASE + b"\n")
    two.write_bytes(b"two words")
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
    unlock = ("unlock", "--slot", "passphrase", "--passphrase-fd", str(read))
    assert own_agent.cli(*unlock, pass_fds=[read]).status == 0
    os.close(read)
    new = ("--new-passphrase-file", str(two))
    assert own_agent.cli("slot", "add", "passphrase", "--name", "second", *first, *new).status == 0
    assert own_agent.cli("slot", "remove", "passphrase", "--passphrase-file", str(two)).status == 0
    assert own_agent.cli("slot", "remove", "second", "--passphrase-file", str(two)).status == 1
    change = ("--passphrase-file", str(two), "--new-passphrase-file", str(one))
    assert own_agent.cli("slot", "change", "second", *change).status == 0
    assert own_agent.cli("slot", "list").out.startswith(b"second  passphrase")


def test_doctor_says_what_is_well_and_what_is_not(agent: RunningAgent, tmp_path: Path) -> None:
    """With a healthy agent all is well; an open directory or a missing agent is wrong, with a remedy."""
    well = agent.cli("--json", "doctor")
    report = json.loads(well.out)
    assert (well.status, report["ok"]) == (0, True)
    subjects = {finding["subject"] for finding in report["findings"]}
    assert subjects >= {
        "socket",
        "way",
        "server",
        "agent",
        "protocol",
        "locked memory",
        "core dumps",
        "store",
        "memfd_secret",
    }
    state, run = agent.directory / "state", agent.directory / "run"
    modes = [(folder, stat.S_IMODE(folder.stat().st_mode)) for folder in (state, run)]
    try:
        state.chmod(0o755)
        run.chmod(0o777)
        wrong = agent.cli("doctor")
    finally:
        for folder, mode in modes:
            folder.chmod(mode)
    assert wrong.status == 1
    assert wrong.out.decode().count("WRONG") == 2
    assert b"-> chmod 0700" in wrong.out
    assert b"-> chmod go-w" in wrong.out
    assert f"run by root, uid {os.geteuid()}, as process".encode() in wrong.out
    absent = agent.cli("--json", "--address", str(tmp_path / "none"), "doctor")
    assert absent.status == 1
    findings = json.loads(absent.out)["findings"]
    assert all(finding["remedy"] for finding in findings if finding["state"] == "wrong")
    for finding in findings[:2]:
        assert finding["text"] == f"there is no socket at {tmp_path / 'none'}"
        assert finding["remedy"].startswith(
            f"start the agent with `keyholt-agent --socket {tmp_path / 'none'}`"
        )
    assert "memfd_secret" in {finding["subject"] for finding in findings}


def test_the_limits_that_the_client_repeats_are_the_agents() -> None:
    """What cannot be imported from the agent, or would take the help too long, is equal to it."""
    assert checks.SYS_MEMFD_SECRET == syscalls._SYS_MEMFD_SECRET
    assert checks.LEAST_LOCKED == arena.MINIMUM_SIZE
    assert MAX_TIMEOUT == polling.FAR
    assert address.MAX_SOCKET_PATH == listener.MAX_SOCKET_PATH


def test_a_dash_is_a_standard_stream(agent: RunningAgent, tmp_path: Path) -> None:
    """Wherever a file is named that is read or written, ``-`` is no file of that name."""
    assert agent.cli("put", "dash/a", "--file", "-", stdin=b"value", cwd=tmp_path).status == 0
    done = agent.cli("inject", "-i", "-", "-o", "-", stdin=b"<keyholt://dash/a>", cwd=tmp_path)
    assert (done.status, done.out, list(tmp_path.iterdir())) == (0, b"<value>", [])


def test_counts_agree_with_their_nouns(
    agent: RunningAgent, command: Callable[..., Result], tmp_path: Path
) -> None:
    """One secret, two secrets."""
    (tmp_path / "one").write_text("A=1\nR=keyholt://x\n")
    (tmp_path / "two").write_text("A=1\nB=2\nR=keyholt://x\nS=keyholt://x\n")
    one, two = (command("import", str(tmp_path / name), "counts").out.decode() for name in ("one", "two"))
    assert one == "imported 1 secret below counts/; 1 was a reference already\n"
    assert two == "imported 1 secret below counts/; 1 was unchanged; 2 were references already\n"
    out = str(tmp_path / "out")
    assert (
        agent.cli("inject", "-o", out, stdin=b"keyholt://counts/A").out
        == f"{out}: 1 reference replaced\n".encode()
    )
    assert agent.cli("inject", "-o", out, stdin=b"").out == f"{out}: 0 references replaced\n".encode()


def test_output_that_cannot_be_written(agent: RunningAgent) -> None:
    """A full disk, a closed pipe and a closed standard output are failures, never a success without the
    value.
    """
    agent.cli("put", "full/a", stdin=CANARY.encode())
    env = {
        **environment(),
        "KEYHOLT_ADDRESS": agent.address,
        "KH": KEYHOLT,
    }

    def shell(script: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["bash", "-c", script], env=env, capture_output=True, check=False, timeout=60)

    for command in ("get full/a", "--json get full/a", "list full/"):
        full = shell(f"$KH {command} >/dev/full")
        assert full.returncode == 1, command
        assert b"No space left" in full.stderr
        closed = shell(f"$KH {command} >&-")
        assert closed.returncode == 1
        assert b"standard output is closed" in closed.stderr
        assert CANARY.encode() not in closed.stderr
        unread, pipe = os.pipe()
        os.close(unread)
        words = [KEYHOLT, *command.split()]
        broken = subprocess.run(words, env=env, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60)
        os.close(pipe)
        assert (broken.returncode, broken.stderr) == (1, b"")


def test_help_and_version_are_results(agent: RunningAgent, command: Callable[..., Result]) -> None:
    """Help goes to standard output with status 0; it says what scripts need: statuses, shapes, defaults."""
    assert agent.cli("--version").out.startswith(b"keyholt")
    shown = {words: command(*words, "--help") for words in ((), ("get",), ("run",), ("slot", "add"))}
    assert all((result.status, result.out[:6]) == (0, b"usage:") for result in shown.values())
    top = shown[()].out.decode()
    first_words = dict.fromkeys(one.words[0] for one in COMMANDS)
    listed = [line.split()[0] for line in top.splitlines() if line.startswith("    ") and line[4] != " "]
    assert listed == list(first_words)
    assert "exit status:" in top
    assert "$KEYHOLT_ADDRESS" in top
    assert b"encoding (utf-8 or base64)" in shown["get",].out
    assert b"default: the newest" in shown["get",].out
    assert b"usage: keyholt run [OPTION]... -- CMD [ARGUMENT]..." in shown["run",].out
