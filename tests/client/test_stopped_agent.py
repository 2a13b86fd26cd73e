"""An agent that is stopped (SIGSTOP) keeps nobody waiting, and is as it was when it goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import keyholt
from keyholt_protocol.errors import AgentUnreachableError, DeadlineExceededError
from tests.client.conftest import PASSPHRASE, RunningAgent
from tests.client.libraries import Library

SHORT = 0.05
"""Seconds that are waited for an agent that does not answer."""


@contextmanager
def stopped(agent: RunningAgent) -> Iterator[None]:
    """The time in which the agent's process does not run."""
    assert agent._process is not None
    os.kill(agent._process.pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, agent._process.pid, os.WSTOPPED)
        yield
    finally:
        os.kill(agent._process.pid, signal.SIGCONT)


def test_a_call_names_itself_and_leaves_the_connection_usable(own_agent: RunningAgent) -> None:
    """Each call ends with its own name when its time is over; once the agent goes on, the same connection
    serves, and gives nobody the late answers. A write on its way may be carried out then.
    """
    with keyholt.connect(own_agent.address) as client:
        client.init(passphrase=PASSPHRASE)
        client.put("a", "one")
        client.put("b", "two")
        with stopped(own_agent):
            with pytest.raises(DeadlineExceededError, match=r"secret\.get within 0\.05 seconds; ask again"):
                client.get("a", timeout=SHORT)
            with pytest.raises(DeadlineExceededError, match=r"secret\.put .*may or may not have been"):
                client.put("b", "three", timeout=SHORT)
            with pytest.raises(AgentUnreachableError, match="does not answer"):
                keyholt.connect(own_agent.address, timeout=SHORT)
        assert client.get("a").text == "one"
        assert client.get("b").text in {"two", "three"}


def test_tasks_are_not_kept_waiting_either(own_agent: RunningAgent, library: Library) -> None:
    """The clients for tasks have the same deadlines, for entering too."""

    async def main() -> None:
        async with library.connect(own_agent.address) as client:
            with stopped(own_agent):
                with pytest.raises(DeadlineExceededError, match=r"agent\.status within 0\.05 seconds"):
                    await client.status(timeout=SHORT)
                with pytest.raises(AgentUnreachableError):
                    await library.connect(own_agent.address, timeout=SHORT)
            assert (await client.status()).state == "uninitialised"

    library.run(main)
