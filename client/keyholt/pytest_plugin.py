"""Keyholt's plugin for pytest: the fixture ``keyholt_agent``, an agent for one test.

- The process is started once a session (with pytest-xdist once a worker), by the first test that asks for it.
  Between tests it is emptied and unlocked, which takes milliseconds; one that a test has changed beyond that
  is thrown away, and the next test has another.
- pytest imports this in every run where Keyholt is installed: nothing of Keyholt is, before a test asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from keyholt.testing import Agent

__all__ = ["keyholt_agent"]


class _Keeper:
    """Has the session's agent ready, once one was asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._agent: Agent | None = None

    def agent(self) -> Agent:
        """One that is as good as new."""
        from keyholt.testing import Agent

        if self._agent is None or not self._agent.reset():
            self.close()
            self._agent = self._stack.enter_context(Agent())
        return self._agent

    def close(self) -> None:
        """End the agent, if there is one."""
        self._agent = None
        self._stack.close()


@pytest.fixture(scope="session")
def _keyholt_keeper() -> Iterator[_Keeper]:
    keeper = _Keeper()
    try:
        yield keeper
    finally:
        keeper.close()


@pytest.fixture
def keyholt_agent(_keyholt_keeper: _Keeper, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """A real agent, unlocked and empty, which ``keyholt.connect()`` and ``keyholt.get()`` find by themselves.

    ``.address``, ``.passphrase``, ``.directory``, ``.log`` and ``.connect()``: see ``keyholt.testing.Agent``.
    """
    agent = _keyholt_keeper.agent()
    monkeypatch.setenv("KEYHOLT_ADDRESS", agent.address)
    return agent
