"""A locked agent, and somebody who can unlock it: they are asked once, and then what they wanted is done.

- Standard input and standard error have to be terminals, and ``--json`` not given: a program gets the error.
- What is asked and answered goes to the terminal only, so that standard output is the command's.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from keyholt.cli.agent import open_store
from keyholt.cli.output import say_aside

__all__ = ["somebody_is_there", "unlock_first"]


def somebody_is_there(options: Namespace) -> bool:
    """Whether a person at a terminal has called the command."""
    ends = (sys.stdin, sys.stderr)
    return not options.json and all(end is not None and end.isatty() for end in ends)


def unlock_first(options: Namespace) -> None:
    """Ask for the passphrase and unlock.

    Raises:
        KeyholtError: it did not unlock; what was wanted is not done then.
    """
    say_aside("the agent is locked; unlock it to go on, or leave it with Ctrl-C")
    choice = {"slot": None, "passphrase_fd": None, "passphrase_file": None}
    open_store(Namespace(address=options.address, timeout=options.timeout, json=False, **choice))
