"""Rounds of killing an agent under writers, for the tests and, longer, for the torture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tests.support.ledger import Ledger, Writers

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

__all__ = ["kill_rounds"]

WRITERS: Final = 4
MOST_WRITES: Final = 60
"""Acknowledged writes before the kill, at most: enough for some log to be carried over by the next start."""


def kill_rounds(agent: AgentProcess, rounds: int, seed: int) -> Ledger:
    """Kill an agent ``rounds`` times under writers; after each, all that it acknowledged is there.

    So are all other rows, and they are what was sealed, or it would not unlock.
    """
    chance = random.Random(seed)
    ledger = Ledger()
    for number in range(rounds):
        agent.start_unlocked()
        with agent.connect() as client:
            ledger.check(client)
        writers = Writers(agent, ledger, WRITERS, seed * 1000 + number)
        goal = chance.randrange(MOST_WRITES)
        try:
            writers.wait_written(goal)
            for _ in range(chance.randrange(20_000)):
                pass  # somewhere within a write, not right after one
        finally:
            agent.kill()
            writers.join()
    agent.start_unlocked()
    with agent.connect() as client:
        ledger.check(client, newest=len(ledger.acknowledged))
    return ledger
