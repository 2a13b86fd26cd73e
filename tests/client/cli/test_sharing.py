"""``run --share-agent``: a command, and what that starts, inherit the way to the agent."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from keyholt.cli import sharing
from keyholt_agent.main import HAND_OUT_SUFFIX
from keyholt_protocol.errors import (
    DeniedError,
)
from tests.client.conftest import RunningAgent, command_line
from tests.client.handing_out import CANARY, address_of
from tests.client.scripted import GREETING, Peer, Script, ScriptedAgent
from tests.support.programs import KEYHOLT


@pytest.mark.parametrize("word", ["--address", "$KEYHOLT_ADDRESS"])
def test_run_hands_a_descriptor_on(agent: RunningAgent, shared: socket.socket, word: str) -> None:
    """With ``--share-agent`` the command, and what that starts, reach the agent by what they inherited."""
    get = f"{KEYHOLT} get fd/a"
    script = f'echo "$KEYHOLT_ADDRESS $A" && {get} && sh -c "{get}"'
    words = ["run", "--share-agent", "--", "sh", "-c", script]
    if word == "--address":
        ran = command_line("--address", agent.address, *words, env={"A": "keyholt://fd/a"})
    else:
        ran = agent.cli(*words, env={"A": "keyholt://fd/a"})
    assert (ran.status, ran.err) == (0, "")
    first, fetched = ran.out.decode().split("\n")
    assert (first.startswith("fd:"), first.endswith(f" {CANARY}"), fetched) == (True, True, CANARY * 2)


def test_the_agent_and_its_clients_agree_where_that_is() -> None:
    """The two sides, which import nothing of each other, append the same to the socket's path."""
    assert sharing.HAND_OUT_SUFFIX == HAND_OUT_SUFFIX


def test_run_passes_an_inherited_descriptor_on(shared: socket.socket) -> None:
    """Where the agent itself is reached by a descriptor, the command gets the same one."""
    env = {"KEYHOLT_ADDRESS": address_of(shared)}
    ran = command_line(
        "run", "--share-agent", "--", "sh", "-c", "echo $KEYHOLT_ADDRESS",
        env=env, pass_fds=[shared.fileno()],
    )  # fmt: skip
    assert ran.out.decode() == f"{address_of(shared)}\n"


def share_nothing(address: str, *words: str) -> tuple[int, str]:
    """The status and the error of a `run --share-agent` whose command is not started."""
    ran = command_line("--address", address, "run", "--share-agent", *words, "--", "echo", "started")
    assert ran.out == b""
    return ran.status, ran.err


def greet_as_one_that_hands_out(peer: Peer) -> None:
    """Answer the greeting as an agent with a second socket does."""
    hello, _ = peer.request()
    peer.answer(hello, replace(GREETING, features=("hand-out",)))


def test_run_says_when_nothing_can_be_shared(tmp_path: Path) -> None:
    """Without an agent, or a descriptor, it is status 6, and the command is not started."""
    status, said = share_nothing(str(tmp_path / "s"))
    assert (status, "there is no socket at" in said) == (6, True)
    status, said = share_nothing("fd:71")
    assert (status, "is not open" in said) == (6, True)
    with ScriptedAgent(tmp_path / "s", greet_as_one_that_hands_out) as agent:
        status, said = share_nothing(agent.address)
        assert (status, f"and not at {agent.address}.fds (No such file or directory)" in said) == (6, True)


def test_run_shares_no_agent_that_does_not_serve_this_user(tmp_path: Path) -> None:
    """Its refusal comes before the command: denied, status 5, as of every other command."""

    def refuse(peer: Peer) -> None:
        peer.fail(None, DeniedError("this agent does not serve uid 7"))

    with ScriptedAgent(tmp_path / "s", refuse) as agent:
        status, said = share_nothing(agent.address)
        assert (status, said) == (5, "keyholt: this agent does not serve uid 7\n")


def test_run_shares_no_agent_that_does_not_answer(tmp_path: Path) -> None:
    """One that is silent at its socket, or hands out nothing, is given up after ``--timeout``: status 6."""

    def silent(peer: Peer) -> None:
        peer.request()
        peer.request()

    def try_to_share(name: str, script: Script) -> tuple[int, str]:
        with (
            ScriptedAgent(tmp_path / name, script) as agent,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second,
        ):
            second.bind(f"{agent.address}.fds")
            second.listen()
            return share_nothing(agent.address, "--timeout", "1")

    with ThreadPoolExecutor() as pool:  # both wait out their second at the same time
        first = pool.submit(try_to_share, "silent", silent)
        second = pool.submit(try_to_share, "empty-handed", greet_as_one_that_hands_out)
    status, said = first.result()
    assert (status, "accepted the connection and does not answer" in said) == (6, True)
    status, said = second.result()
    assert (status, "accepts no connection within 1 seconds" in said) == (6, True)


def test_run_says_how_a_service_manager_passes_the_second_socket_on(tmp_path: Path) -> None:
    """An agent that was given one socket by systemd cannot be shared; the line of the unit is named."""
    with ScriptedAgent(tmp_path / "s", Peer.greet) as agent:
        status, said = share_nothing(agent.address)
    assert status == 1
    assert said.endswith(f"; add ListenSequentialPacket={agent.address}.fds to its socket unit\n")
