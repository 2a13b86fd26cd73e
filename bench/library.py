"""The blocking client's ``get`` on an open connection, one after the other."""

from __future__ import annotations

import itertools
from time import perf_counter_ns

from bench.exchanges import path_of, value_of
from bench.jobs import Job, LoadError, Measured, Tally

import keyholt

__all__ = ["perform"]


def perform(job: Job) -> Measured:
    """Do a job of ``get`` calls; a latency is that of the call alone, the value's check is beside it.

    Raises:
        LoadError: a value is wrong.
    """
    secrets = [(path_of(number), value_of(number)) for number in range(job.first, job.first + job.count)]
    with keyholt.connect(job.place) as agent:
        tally = Tally(job)
        for path, value in itertools.cycle(secrets):
            begun = perf_counter_ns()
            secret = agent.get(path)
            now = perf_counter_ns()
            with secret:
                if secret.bytes != value:
                    raise LoadError("the library gave a wrong value")
            tally.answered(begun, now)
            if now >= tally.until:
                return tally.result()
    raise LoadError("there was nothing to ask for")
