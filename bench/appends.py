"""The least that a durable write takes: append as many bytes as a write's request has, ``fdatasync``."""

from __future__ import annotations

import os
from time import perf_counter_ns

from bench.exchanges import EXCHANGES
from bench.jobs import Job, Measured, Tally

__all__ = ["perform"]


def perform(job: Job) -> Measured:
    """Do a job of appends to a file, which is made if it is not there."""
    record = EXCHANGES["put"](0).request
    descriptor = os.open(job.place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        tally = Tally(job)
        now = 0
        while now < tally.until:
            begun = perf_counter_ns()
            os.write(descriptor, record)
            os.fdatasync(descriptor)
            now = perf_counter_ns()
            tally.answered(begun, now)
        return tally.result()
    finally:
        os.close(descriptor)
