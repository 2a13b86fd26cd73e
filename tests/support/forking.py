"""What runs in the process that agents are forked from: it has imported all of an agent, and waits.

It runs as the installed program does (isolated, every warning on), does nothing itself, and has one thread.
Each request names the arguments, environment and working directory of one agent, and brings its log. The
agent is forked twice, so that its parent ends and the test, which adopts orphans, is the one to wait for it.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tests.support.derivations import cheapened

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_REQUEST", "become", "cheapen_derivations", "serve"]

MAX_REQUEST: Final = 64 * 1024
"""Bytes of arguments and environment of one agent."""


def cheapen_derivations() -> None:
    """Have Argon2 take the least that it can. Parameters are stored, bounded and authenticated as ever."""
    from keyholt_agent.keys import kdf

    setattr(kdf, "_argon2id", cheapened(kdf._argon2id))  # noqa: B010 (a function is no variable to mypy)


def become() -> NoReturn:
    """Be an agent whose derivations are cheap, with the arguments of this process."""
    cheapen_derivations()
    from keyholt_agent.start import program

    program()


def serve(descriptor: int) -> None:
    """Fork an agent for each request, and answer with its process id; returns in the agent, to become it.

    The process itself ends when the other end is closed.
    """
    import keyholt_agent.main  # noqa: F401 (that is what takes long)

    gc.collect()
    gc.freeze()  # a collection in an agent would copy every page of it
    with socket.socket(fileno=descriptor) as requests:
        while True:
            request, files, _, _ = socket.recv_fds(requests, MAX_REQUEST, 1)
            if not request:
                sys.exit()
            pid = _fork_orphan()
            if pid == 0:
                break
            requests.send(b"%d" % pid)
            os.close(files[0])
    _settle(json.loads(request), files[0])


def _fork_orphan() -> int:
    """Fork a process whose parent has ended; 0 in that process, and its id in this one."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        if (pid := os.fork()) == 0:
            return 0
        os.write(writing, b"%d\n" % pid)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as said:
        return int(said.readline(20))


def _settle(request: Mapping[str, Any], log: int) -> None:
    """Be as a process that was started so."""
    for standard in (1, 2):
        os.dup2(log, standard)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    os.chdir(request["directory"])
