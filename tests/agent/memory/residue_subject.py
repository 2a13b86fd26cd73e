"""A process that lets others plant something in it, for ``test_residue`` to look what becomes of it.

It says in JSON where it is, a line each, and goes on when it is sent a byte. With ``clearing`` as its
argument it uses what the agent uses; with ``nothing``, what trio offers by itself.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import trio

from keyholt_agent.memory.residue import MOST_SKIPPED, ResidueClearing, run_in_thread

CLEARING = sys.argv[1] == "clearing"


def pause(step: str) -> None:
    """Say that a step is reached, and block until told to go on: inside a task, without trio's knowledge."""
    os.write(1, json.dumps({"step": step, "thread": threading.get_native_id()}).encode() + b"\n")
    os.read(0, 1)


async def wait(step: str) -> None:
    """The same, waiting as tasks do."""
    os.write(1, json.dumps({"step": step, "thread": threading.get_native_id()}).encode() + b"\n")
    await trio.lowlevel.wait_readable(0)
    os.read(0, 1)


def work() -> None:
    """What runs in a thread."""
    pause("thread begun")
    pause("thread at work")


async def main() -> None:
    """Each place in which something may be planted, and each at which it must have gone."""
    in_thread = run_in_thread if CLEARING else trio.to_thread.run_sync
    pause("task, before a thread starts")
    await in_thread(work)
    await wait("thread done")
    pause("task")
    await wait("loop waits")
    pause("busy task")
    for _ in range(MOST_SKIPPED + 1):
        await trio.lowlevel.checkpoint()
    pause("loop was busy")


trio.run(main, instruments=[ResidueClearing()] if CLEARING else [])
