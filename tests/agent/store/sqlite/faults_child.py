"""A process of which strace takes hold: forks a child for each job read from stdin, so imports cost once.

A child opens the store in the job's directory, says so, waits for a byte from the FIFO ``go``, does the job
and reports. Everything is one JSON object a line; the last of a job is the child's exit status.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from keyholt_agent.store.commands import (
    AnyCommand,
    CreateStore,
    DestroyVersion,
    PutSecret,
    ReadSecret,
)
from keyholt_agent.store.path_commands import CopySecret, MoveSecret, PurgeSecret
from keyholt_agent.store.sqlite.backend import SqliteBackend
from keyholt_agent.store.sqlite.database import LOG_LIMIT
from keyholt_protocol.errors import KeyholtError
from tests.agent.store.builders import NEW_ROOT, Keeper, rekey, resealed, seed, slot, unseal, version

PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)


def main() -> None:
    """Serve jobs until stdin ends."""
    for line in sys.stdin:
        job = json.loads(line)
        if (child := os.fork()) == 0:
            run(Path(job["directory"]), job["go"], job["before"], job["steps"])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(status=status)


def run(directory: Path, go: str, before: list[list[str]], steps: list[list[str]]) -> None:
    """Open the store, take the steps ``before``, wait, and take the others, reporting each."""
    # Where Yama restricts ptrace to ancestors, strace needs this.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
    # Opened before strace is there, and for writing too, which never blocks: not a call that a fault strikes.
    gate = os.open(go, os.O_RDWR)
    backend = SqliteBackend(directory)
    backend.start()
    if backend.initialised:
        unseal(backend)
    for step in before:
        backend.run([command(*step)])[0].unwrap()
        backend.maintain()
    say(ready=os.getpid())
    os.read(gate, 1)
    for step in steps:
        if step == ["wait"]:
            say(waiting=True)
            os.read(gate, 1)
            backend._next_recovery = 0.0
            continue
        if step == ["careless"]:
            plant_careless_commits(backend)
            continue
        if step[0] == "boast":
            # A planted bug: acknowledged before it is done.
            say(step=step, error="None", faulty=False)
            backend.run([command("put", step[1])])
            continue
        if step == ["rekey"]:
            say(step=step, error=repr(rekeyed(backend)), faulty=backend.faulty)
            continue
        error = backend.run([command(*step)] if step[0] != "puts" else many(step[1]))[0]
        backend.maintain()
        say(step=step, error=repr(getattr(error, "error", None)), faulty=backend.faulty)
    backend.stop()


def rekeyed(backend: SqliteBackend) -> KeyholtError | None:
    """Put the keys of a new root in force; what came of it."""
    try:
        rekey(backend, Keeper(NEW_ROOT), slot("new"))
    except KeyholtError as error:
        return error
    finally:
        backend.maintain()
    return None


def many(count: str) -> list[AnyCommand]:
    """Puts that are run together."""
    return [command("put", f"many/{index}") for index in range(int(count))]


def plant_careless_commits(backend: SqliteBackend) -> None:
    """A planted bug: commits that do not wait for the disk."""
    assert backend._database is not None
    backend._database.pragma("synchronous=OFF")


def command(name: str, *arguments: str) -> AnyCommand:
    """The command that a step stands for."""
    match name:
        case "create":
            return CreateStore(seed=seed(), keeper=Keeper())
        case "put":
            return PutSecret(
                path=arguments[0], new=version(1, value=b"value of " + arguments[0].encode() * 500)
            )
        case "fill":
            return PutSecret(path=arguments[0], new=version(1, value=bytes(LOG_LIMIT)))
        case "move":
            return MoveSecret(path=arguments[0], to=arguments[1], reseal=resealed)
        case "copy":
            return CopySecret(path=arguments[0], to=arguments[1], reseal=resealed)
        case "purge":
            return PurgeSecret(path=arguments[0])
        case "destroy":
            return DestroyVersion(path=arguments[0], version=1)
        case _:
            return ReadSecret(path=arguments[0], version=None)


def say(**fields: Any) -> None:
    """One line of the report."""
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
