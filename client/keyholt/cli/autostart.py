"""Starts the agent for a command that finds none, where the user's configuration has ``agent.autostart``.

- Only at the usual place of the user's own agent: who names an address means the agent that is there.
- It is looked for before the command begins. A command that has sent something is never sent again.
- The agent is the one that is installed beside this program. It goes on when the command has ended; what it
  says is in ``agent.log`` in the state directory, which nobody else may read.
- Of two that are started at once, the store's lock lets one go on, and both commands find that one.
- The configuration is believed where nobody else may have written it, as the agent itself would.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Final, cast

from keyholt.address import VARIABLE, own_place
from keyholt.cli.connection import connected
from keyholt_protocol.errors import AgentUnreachableError

if TYPE_CHECKING:
    import subprocess

__all__ = ["ensure_agent"]

WITHOUT_AGENT: Final = frozenset({"completion", "doctor", "help"})
"""Commands that have no use for one, or are asked whether there is one."""

PATIENCE: Final = 10.0
"""Seconds for an agent to serve: it takes a fifth of one, and longer where a large store is checked."""

POLL: Final = 0.02
OWNER_ONLY: Final = 0o600
WRITABLE_BY_OTHERS: Final = 0o022


def ensure_agent(options: Namespace) -> None:
    """Start the agent if there is none and the configuration has that done.

    Raises:
        AgentUnreachableError: it did not start; the message says where it says why.
    """
    if options.command.words[0] in WITHOUT_AGENT or options.address or os.environ.get(VARIABLE):
        return
    if not _wanted(_place("XDG_CONFIG_HOME", ".config", "agent.toml")) or _is_there(options):
        return
    log = _place("XDG_STATE_HOME", ".local/state", "agent.log")
    program = os.path.realpath(sys.argv[0])  # a link to it may lie elsewhere, and the agent starts in /
    agent = _start(os.path.join(os.path.dirname(program), "keyholt-agent"), log)
    deadline = time.monotonic() + PATIENCE
    while not _is_there(options):
        # One that has ended may have found another that is just starting: that is as good.
        if time.monotonic() > deadline or (agent.poll() is not None and not _starts_elsewhere()):
            raise AgentUnreachableError(f"the agent was started and does not serve; see {log}")
        time.sleep(POLL)


def _place(variable: str, usual: str, name: str) -> str:
    folder = os.environ.get(variable) or os.path.join(os.path.expanduser("~"), usual)
    return os.path.join(folder, "keyholt", name)


def _wanted(configuration: str) -> bool:
    try:
        with open(configuration, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid not in {0, os.geteuid()} or found.st_mode & WRITABLE_BY_OTHERS:
                return False
            text = file.read()
    except OSError:
        return False
    import tomllib

    try:
        agent: object = tomllib.loads(text.decode()).get("agent")
    except ValueError:
        return False  # the agent says what is wrong with it
    return isinstance(agent, dict) and cast("dict[str, object]", agent).get("autostart") is True


def _is_there(options: Namespace) -> bool:
    try:
        connected(options).close()
    except AgentUnreachableError:
        return False
    return True


def _start(program: str, log: str) -> subprocess.Popen[bytes]:
    import subprocess  # only for who has the agent started

    try:
        os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(log, flags, OWNER_ONLY), "wb") as said:
            return subprocess.Popen(
                [program], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", start_new_session=True
            )
    except OSError as error:
        raise AgentUnreachableError(
            f"the agent could not be started: {error.filename or program}: {error.strerror}"
        ) from None


def _starts_elsewhere() -> bool:
    """Whether another agent has the place already, though it may not serve yet."""
    place = own_place(os.environ.get("XDG_RUNTIME_DIR"))
    return place is not None and os.path.lexists(place)
