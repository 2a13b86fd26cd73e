"""An agent is started for who has it so configured and finds none, once, and for nobody else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import CONFIG, environment
from tests.support.programs import KEYHOLT

WANTED = "[agent]\nautostart = true\n"


@pytest.fixture
def home() -> Iterator[Path]:
    """A user's directories, their names short enough for a socket; whatever agent serves there is ended."""
    home = Path(tempfile.mkdtemp(prefix="kha"))
    for name in ("run", "config/keyholt"):
        (home / name).mkdir(parents=True, mode=0o700)
    yield home
    if (home / "run/keyholt/agent.sock").exists():
        told = keyholt(home, "--json", "status")
        agent = os.pidfd_open(json.loads(told.stdout)["pid"])
        signal.pidfd_send_signal(agent, signal.SIGTERM)
        os.close(agent)
        for _ in range(1000):
            if not (home / "run/keyholt/agent.sock").exists():
                break
            subprocess.run(["sleep", "0.02"], check=True)
    shutil.rmtree(home)


def variables(home: Path) -> dict[str, str]:
    """Those that say where a user's files lie."""
    places = {"HOME": home, "XDG_RUNTIME_DIR": home / "run", "XDG_CONFIG_HOME": home / "config"}
    named = {name: str(place) for name, place in places.items()}
    return {**environment(), **named, "XDG_STATE_HOME": str(home / "state")}


def keyholt(home: Path, *words: str, program: str = KEYHOLT) -> subprocess.CompletedProcess[str]:
    """`keyholt` as that user."""
    return subprocess.run(
        [program, *words],
        env=variables(home),
        cwd=Path(KEYHOLT).parent,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def configure(home: Path, text: str) -> Path:
    """Write the configuration."""
    file = home / "config/keyholt/agent.toml"
    file.write_text(f"{text}{CONFIG}", "utf-8")
    return file


def test_a_command_starts_the_agent_and_the_next_finds_it(home: Path) -> None:
    """It serves on, wherever the program was called from; what it says is in a file that is nobody else's."""
    configure(home, WANTED)
    first, second = (keyholt(home, "--json", "status", program=at) for at in ("./keyholt", KEYHOLT))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert json.loads(first.stdout)["pid"] == json.loads(second.stdout)["pid"]
    log = home / "state/keyholt/agent.log"
    assert "serving" in log.read_text("utf-8")
    assert log.stat().st_mode & 0o777 == 0o600


def test_two_at_once_find_one(home: Path) -> None:
    """The store has one agent; neither command is told of the other that was started."""
    configure(home, WANTED)
    command = [KEYHOLT, "--json", "status"]
    both = [subprocess.Popen(command, env=variables(home), stdout=subprocess.PIPE) for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    assert told[0]["pid"] == told[1]["pid"]


@pytest.mark.parametrize("text", ["", "[agent]\nautostart = false\n", '[agent]\nautostart = "yes"\n', "["])
def test_nobody_else_has_one_started(home: Path, text: str) -> None:
    """Where it is not said, or not in so many words, there is none, and that is the answer."""
    configure(home, text)
    assert keyholt(home, "status").returncode == 6
    assert not (home / "state").exists()


def test_who_names_an_address_means_the_agent_there(home: Path) -> None:
    """And who asks for help, or what is wrong, is not helped by a start."""
    configure(home, WANTED)
    assert keyholt(home, "--address", str(home / "other.sock"), "status").returncode == 6
    assert keyholt(home, "doctor").returncode == 1
    assert keyholt(home, "completion", "bash").returncode == 0
    assert not (home / "state").exists()


def test_a_configuration_that_others_may_write_is_not_believed(home: Path) -> None:
    """It could have a program started."""
    configure(home, WANTED).chmod(0o666)
    assert keyholt(home, "status").returncode == 6
    assert not (home / "state").exists()


def test_an_agent_that_does_not_start_is_told_of(home: Path) -> None:
    """Where it says why, and soon."""
    configure(home, WANTED + "unknown = 1\n")
    told = keyholt(home, "status")
    log = home / "state/keyholt/agent.log"
    assert (told.returncode, str(log) in told.stderr) == (6, True)
    assert "unknown" in log.read_text("utf-8")
