"""A rekey and its rewrapping, killed at every call that changes the store, for the tests and the torture.

As in ``fault_points`` the points are not counted beforehand: the N-th call of a kind is taken for N = 1, 2
and so on, until a rekey and all of its rewrapping are over before it.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import PASSPHRASE, hurried, poll
from tests.support.faults import Fault, injected, traceable
from tests.support.ledger import Ledger
from tests.support.wire import ClosedError, two_passphrases

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess
    from tests.support.wire import WireClient

__all__ = ["rekey_points"]

SECOND: Final = b"the passphrase of a second keyslot"
LEAVING: Final = b"the passphrase of somebody who leaves"
SECRETS: Final = 150
"""More than one batch of data keys."""

DESTROYED: Final = "wraps nothing, and is destroyed"
"""What the log says of a master key when all is rewrapped."""

_ROOT_OF_SLOT: Final = slice(26, 30)
_ROOT_OF_MASTER: Final = slice(22, 26)
"""Where the version of the root key stands, in a record that it seals and in one that it is sealed in."""


def rekey_points(agent: AgentProcess, call: str, step: int = 1, last: int = 1000) -> int:
    """Kill an agent with a store at every ``step``-th call of a kind in a rekey, up to the ``last``; how many
    there were.

    After each, a new agent opens the store with every keyslot that was to stay. The change of the root key is
    wholly there or wholly not, and there if it was acknowledged. All that was acknowledged is there, and the
    rewrapping comes to its end.
    """
    agent.wrapper = traceable()
    ledger = Ledger()
    with hurried(agent):
        agent.start_unlocked()
        with agent.connect() as client:
            client.call("slot.add", two_passphrases(PASSPHRASE, SECOND), name="second").expect()
            for number in range(SECRETS):
                ledger.put(client, f"secret/{number}", b"%d" % number)
        for count in range(1, last + 1, step):
            with agent.connect() as client:
                client.call("slot.add", two_passphrases(PASSPHRASE, LEAVING), name="leaving").expect()
                fault = Fault(call, count, "signal=KILL")
                with injected(agent.pid, fault, agent.home / "trace"):
                    acknowledged = _exercise(agent, client, ledger, count)
            agent.kill()
            removed = _wholly(agent)
            assert removed or not acknowledged
            _check(agent, ledger, removed=removed)
            if not fault.injected:
                assert acknowledged
                return count - 1
    return last


def _exercise(agent: AgentProcess, client: WireClient, ledger: Ledger, count: int) -> bool:
    """Take a keyslot away, write, and wait for the rewrapping; whether the change was acknowledged."""
    acknowledged = False
    destroyed = agent.log.count(DESTROYED)
    with suppress(ClosedError):
        ledger.put(client, "before", b"%d" % count)
        client.call("slot.remove", PASSPHRASE, name="leaving").expect()
        acknowledged = True
        ledger.put(client, "after", b"%d" % count)
        poll(lambda: client.status() and agent.log.count(DESTROYED) > destroyed)
    return acknowledged


def _wholly(agent: AgentProcess) -> bool:
    """Whether the keyslot is gone. Whatever a root key wraps is wrapped by the same one.

    Looked at in a copy, for the next agent is to replay the log itself.
    """
    copy = agent.home / "copy"
    shutil.copytree(agent.state, copy)
    try:
        with closing(sqlite3.connect(copy / "store.db")) as database:
            slots = database.execute("SELECT name, wrapped_root FROM keyslot").fetchall()
            masters = database.execute(
                "SELECT state, retiring, wrapped FROM master_key ORDER BY version"
            ).fetchall()
    finally:
        shutil.rmtree(copy)
    versions = {wrapped[_ROOT_OF_SLOT] for _, wrapped in slots}
    versions |= {wrapped[_ROOT_OF_MASTER] for state, _, wrapped in masters if state != "destroyed"}
    assert len(versions) == 1
    assert [state for state, _, _ in masters].count("active") == 1
    assert masters[-1][:2] == ("active", 0)
    names = {name for name, _ in slots}
    assert {"passphrase", "second"} <= names
    return "leaving" not in names


def _check(agent: AgentProcess, ledger: Ledger, *, removed: bool) -> None:
    """Start it again, and look at everything; it is left unlocked, and without the keyslot."""
    agent.start()
    with agent.connect() as client:
        assert client.call("agent.unlock", LEAVING).code == ("unlock_failed" if removed else "")
        for passphrase in (SECOND, PASSPHRASE):
            client.call("agent.lock").expect()
            client.call("agent.unlock", passphrase).expect()
        if not removed:
            client.call("slot.remove", PASSPHRASE, name="leaving").expect()
        ledger.check(
            client, newest=len(ledger.acknowledged)
        )  # which takes longer than to see what is to be done
        poll(lambda: "to_rewrap" not in client.status())
        client.call("agent.lock").expect()
        client.call("agent.unlock", PASSPHRASE).expect()
