"""The full path of the command line: parse, carry out, and turn what went wrong into a sentence and a status.

- The statuses are those of ``keyholt.cli.table.EPILOG``, and 130 for an interrupt (the shell's convention).
- No exception reaches the user as a traceback, for a traceback shows code and may show values.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from keyholt.cli.autostart import ensure_agent
from keyholt.cli.command import Command
from keyholt.cli.errors import CancelledError, UsageError
from keyholt.cli.output import write_error
from keyholt.cli.parser import parse
from keyholt_protocol.errors import (
    AgentUnreachableError,
    AgentUntrustedError,
    DeniedError,
    InvalidRequestError,
    KeyholtError,
    LockedError,
    NotFoundError,
    TooLargeError,
    UninitialisedError,
)

__all__ = ["report", "run", "status_of"]

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2

_STATUSES: Final[dict[type[BaseException], int]] = {
    UsageError: USAGE,
    InvalidRequestError: USAGE,
    NotFoundError: 3,
    LockedError: 4,
    UninitialisedError: 4,
    DeniedError: 5,
    AgentUnreachableError: 6,
    AgentUntrustedError: 6,
}


def run(words: Sequence[str]) -> int:
    """Carry out a command line; gives its exit status."""
    as_json = "--json" in words[: words.index("--") if "--" in words else None]
    try:
        if sys.stdout is None:
            raise OSError("standard output is closed")
        return _run(words)
    except SystemExit as end:  # argparse has printed the help or the version
        return end.code if isinstance(end.code, int) else FAILED
    except BrokenPipeError:  # a reader that has seen enough needs no message
        return FAILED
    except (KeyholtError, UsageError, CancelledError, ValueError, OSError) as error:
        return report(error, as_json=as_json)
    except Exception as error:  # a defect; its text may hold anything, so its kind alone is told
        message = (
            f"this is a defect of keyholt ({type(error).__name__}); report it with the command that you gave"
        )
        write_error(message, as_json=as_json, code="internal")
        return FAILED


def _run(words: Sequence[str]) -> int:
    options = parse(words)
    command: Command = options.command
    ensure_agent(options)
    return command.run(options)


def status_of(error: BaseException) -> int:
    """The exit status that an error comes to."""
    if isinstance(error, TooLargeError) and error.details.get("field") != "payload":
        return USAGE  # a name that is too long is as wrong as one that is misspelt
    return _STATUSES.get(type(error), FAILED)


def report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong on standard error; gives the exit status."""
    code = "usage" if isinstance(error, UsageError) else "failed"
    try:
        write_error(_sentence(error), error, as_json=as_json, code=code)
    except OSError:
        pass  # standard error is gone too; the status is all that is left
    return status_of(error)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)
    return str(error)
