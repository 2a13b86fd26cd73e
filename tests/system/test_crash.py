"""A killed agent: no acknowledged write is lost, and none that is there is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import hurried
from tests.support.crashing import kill_rounds
from tests.support.ledger import Ledger
from tests.support.wire import WireError

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_under_writers(stopped: AgentProcess, seed: int) -> None:
    """At random points under four writers, in two stores: 0 lost, 0 unreadable."""
    with hurried(stopped):
        ledger = kill_rounds(stopped, 10, seed)
    assert len(ledger.acknowledged) > 100


def test_ledger_notices_a_lost_write(shared: AgentProcess) -> None:
    """The check itself: a write that is not there, or of another value, a destruction undone: found out."""
    ledger = Ledger()
    with shared.connect() as client:
        ledger.put(client, "a", b"one")
        ledger.check(client)
        for lost in ((("a", 2), b"two"), (("b", 1), b"one"), (("a", 1), b"other")):
            planted = Ledger(
                dict([*ledger.acknowledged.items(), lost]), set(), {"a": {b"one"}, "b": {b"one"}}
            )
            with pytest.raises((AssertionError, WireError)):
                planted.check(client)
        ledger.destroyed.add(("a", 1))
        with pytest.raises(AssertionError):
            ledger.check_destroyed(client)
