"""A prepared agent differs from one that was started anew in what it has imported and derives, and in nothing
else.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import PASSPHRASE, AgentProcess, poll
from tests.support.prepared import Preparation, PreparedAgent

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[PreparedAgent]:
    """One that was never started."""
    home = tmp_path / "prepared"
    home.mkdir()
    with Preparation() as preparation, PreparedAgent(home, preparation=preparation) as agent:
        yield agent


def seen(agent: AgentProcess) -> dict[str, object]:
    """What the kernel says of it."""
    process = Path(f"/proc/{agent.pid}")
    status = dict(re.findall(r"^(\w+):\t(.*)$", (process / "status").read_text(), re.MULTILINE))
    kept = ("Name", "Umask", "SigBlk", "SigIgn", "SigCgt", "PPid", "CapEff", "VmLck")
    return {
        **{name: status[name] for name in kept},
        "descriptors": [name.replace(agent.home.name, "") for name in agent.descriptors()],
        "limits": (process / "limits").read_text(),
        "directory": (process / "cwd").readlink().relative_to(agent.home),
    }


def test_it_is_as_one_that_was_started_anew(prepared: PreparedAgent, tmp_path: Path) -> None:
    """Its name, parent and directory, what it holds, what it has made of its limits, umask and signals."""
    home = tmp_path / "anew"
    home.mkdir()
    with AgentProcess(home) as anew:
        prepared.start()
        anew.start()
        poll(
            lambda: seen(prepared) == seen(anew)
        )  # each has its last socket a moment after it says that it serves


def test_its_end_is_seen(prepared: PreparedAgent) -> None:
    """With its own status and log, whether it refuses to start or is killed."""
    prepared.config = "[nothing]\n"
    assert "nothing" in prepared.refusal()
    prepared.config = ""
    process = prepared.start().process
    prepared.kill()
    assert process is not None
    assert process.poll() == -signal.SIGKILL


def test_its_store_is_not_one_of_another(prepared: PreparedAgent, tmp_path: Path) -> None:
    """A passphrase opens it nowhere else: cheap is the derivation, and not left out."""
    prepared.start_new()
    prepared.stop()
    with AgentProcess(prepared.home) as anew:
        anew.start()
        with anew.connect() as client:
            assert client.call("agent.unlock", PASSPHRASE).code != ""
