"""A put and a destroy, with a fault at every call that changes the store, for the tests and the torture.

The points are not counted beforehand: the N-th call of a kind is taken for N = 1, 2, ... until there is none.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import PASSPHRASE, hurried, poll
from tests.support.faults import Fault, injected, traceable
from tests.support.ledger import Ledger
from tests.support.wire import ClosedError, WireError

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess
    from tests.support.wire import WireClient

__all__ = ["crash_points", "error_points"]

VALUE: Final = b"v" * 5000
"""Longer than a page, so that overflow pages are written as well."""


def crash_points(agent: AgentProcess, call: str, step: int = 1) -> int:
    """Kill an agent with a store at every ``step``-th call of a kind; how many there were.

    After each, a new agent opens the store and unlocks it, so that its rows are what was sealed; and all that
    was acknowledged is there.
    """
    agent.wrapper = traceable()
    ledger = Ledger()
    with hurried(agent):
        for count in itertools.count(1, step):
            agent.start_unlocked()
            fault = Fault(call, count, "signal=KILL")
            with agent.connect() as client:
                ledger.check(client)
                ledger.check_destroyed(client)
                with injected(agent.pid, fault, agent.home / "trace"):
                    _exercise(client, ledger, count)
            agent.kill()
            if not fault.injected:
                return count - 1
    raise AssertionError("unreachable")


def error_points(agent: AgentProcess, call: str, error: str, step: int = 1) -> int:
    """Let every ``step``-th call of a kind fail in turn in one running agent; how many there were.

    What fails is not acknowledged; the agent recovers by itself, and all that was acknowledged is there, then
    and after a restart.
    """
    agent.wrapper = traceable()
    ledger = Ledger()
    failures = 0
    agent.start_unlocked()
    with agent.connect() as client:
        for count in itertools.count(1, step):
            fault = Fault(call, count, f"error={error}")
            with injected(agent.pid, fault, agent.home / "trace"):
                _exercise(client, ledger, count)
            poll(lambda: _writes(client, ledger), patience=20)
            ledger.check(client)
            ledger.check_destroyed(client)
            if not fault.injected:
                break
            failures += 1
            client.call("agent.lock").expect()
            client.call("agent.unlock", PASSPHRASE).expect()
    assert ledger.destroyed
    if error == "EIO":  # a full disk needs no reopening; after any other failure nothing less is safe
        assert agent.log.count("was reopened and is whole") >= failures
    agent.stop()
    agent.start_unlocked()
    with agent.connect() as client:
        ledger.check(client)
        ledger.check_destroyed(client)
    return count - 1


def _exercise(client: WireClient, ledger: Ledger, count: int) -> None:
    """The first put after an unlock, which reserves wraps as well; then the end of its data key."""
    path = f"point/{count}"
    try:
        version = ledger.put(client, path, VALUE)
        client.call("secret.destroy", path=path, version=version).expect()
        ledger.destroyed.add((path, version))
        ledger.put(client, path, VALUE[:100])
    except WireError as error:
        assert error.code == "store_unavailable", error  # noqa: PT017 (the code is what is checked)
        # A destruction that failed may have happened: nothing was acknowledged, so nothing is known.
        ledger.acknowledged.pop((path, 1), None)
    except ClosedError:
        ledger.acknowledged.pop((path, 1), None)


def _writes(client: WireClient, ledger: Ledger) -> bool:
    try:
        ledger.put(client, "after", b"the fault")
    except WireError as error:
        assert error.code == "store_unavailable", error  # noqa: PT017 (the code is what is checked)
        return False
    return True
