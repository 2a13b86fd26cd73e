"""An agent that is watched while it works: ``python -I bench/observed.py FILE ARGUMENT...``.

It is otherwise as installed. It writes to FILE, whenever it is sent SIGUSR1, how long what it answered since
the last time had been ready, by who asked: the number of turns, and quantiles in microseconds. The agent
itself measures it, from the look before the one that found a request to the end of the turn in which it was
answered (``keyholt_agent.transport.turns``); nothing of this is in an agent that is installed.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path

import keyholt_agent.main
from keyholt_agent.start import main as start
from keyholt_agent.transport.server import Server
from keyholt_agent.transport.turns import Entry
from keyholt_agent.transport.visit import Visit

__all__ = ["Watch"]


class Watch:
    """What is known of the turns so far."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._waits: defaultdict[str, list[float]] = defaultdict(list)

    def observe(self, one: Entry, waited: float) -> None:
        """See ``turns.Observe``."""
        if isinstance(one, Visit):
            self._waits[one.principal.name].append(waited)

    def write(self, *_: object) -> None:
        """Write, whole or not at all, and begin anew."""
        told: dict[str, list[float]] = {}
        for name, waits in self._waits.items():
            ordered = sorted(waits)
            told[name] = [len(ordered), *(1e6 * ordered[int(len(ordered) * share)] for share in (0.5, 0.99))]
        self._waits.clear()
        draft = self._file.with_suffix(".draft")
        draft.write_text(json.dumps(told), "utf-8")
        os.replace(draft, self._file)


if __name__ == "__main__":
    watch = Watch(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR1, watch.write)
    vars(keyholt_agent.main)["Server"] = functools.partial(Server, observe=watch.observe)
    sys.exit(start())
