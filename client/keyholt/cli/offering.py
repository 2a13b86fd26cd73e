"""A locked agent, and somebody who can unlock it: they are asked once, and then what they wanted is done.

- Standard input and standard error have to be terminals, and ``--json`` not given: a program gets the error.
- What is asked and answered goes to the terminal only, so that standard output is the command's.
- It is asked before anything is sent that needs the keys, and no command is ever begun anew: what it has read
  from a pipe by then could not be read again.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from keyholt.cli.connection import connected
from keyholt.cli.output import say_aside

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["unlocked"]


def unlocked(options: Namespace) -> Client:
    """The agent, for what needs its keys; one that is locked is unlocked by whoever is there to be asked.

    Raises:
        KeyholtError: it cannot be reached, or somebody was asked and it did not unlock.
    """
    agent = connected(options)
    try:
        if _somebody_is_there(options) and agent.status().state == "locked":
            _unlock(options)
    except BaseException:
        agent.close()
        raise
    return agent


def _somebody_is_there(options: Namespace) -> bool:
    """Whether a person at a terminal has called the command."""
    ends = (sys.stdin, sys.stderr)
    return not options.json and all(end is not None and end.isatty() for end in ends)


def _unlock(options: Namespace) -> None:
    from keyholt.cli.agent import open_store  # here: the commands of that module come here, too

    say_aside("the agent is locked; unlock it to go on, or leave it with Ctrl-C")
    choice = {"slot": None, "passphrase_fd": None, "passphrase_file": None}
    open_store(Namespace(address=options.address, timeout=options.timeout, json=False, **choice))
