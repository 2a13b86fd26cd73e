"""A load generator, a process of its own: ``python -m bench.load``, a job on stdin, its result on stdout.

===================== ===========================================================================
kind of job           what it does
===================== ===========================================================================
get, put, page, echo  requests on connections that last (``bench.lasting``)
visit, visit-echo     connections that greet, ask once and close (``bench.visits``)
library               the blocking client's ``get`` (``bench.library``)
append                what a durable write costs at the least (``bench.appends``)
===================== ===========================================================================

Requests are encoded before the clock starts, every answer is checked, and the same loop drives the agent and
the server that it is held against: what the generator costs is the same on both sides of a ratio.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Final

from bench.jobs import Job, Kind, LoadError, Measured

from bench import appends, lasting, library, visits
from keyholt_protocol.errors import KeyholtError

__all__ = ["PERFORM"]

PERFORM: Final[dict[Kind, Callable[[Job], Measured]]] = {
    "get": lasting.perform,
    "put": lasting.perform,
    "page": lasting.perform,
    "echo": lasting.perform,
    "visit": visits.perform,
    "visit-echo": visits.perform,
    "library": library.perform,
    "append": appends.perform,
}


def main() -> int:
    """Do the job on stdin."""
    job = Job(**json.load(sys.stdin))
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    try:
        measured = PERFORM[job.kind](job)
    except (LoadError, KeyholtError, OSError) as error:
        print(f"load generator: {error}", file=sys.stderr)
        return 1
    json.dump(dataclasses.asdict(measured), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
