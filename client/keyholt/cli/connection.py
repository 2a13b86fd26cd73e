"""The connection that a command talks over, as the options of every command say."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["connected", "patience"]


def connected(options: Namespace) -> Client:
    """The agent at ``--address``, with the time that ``--timeout`` gives it for each answer."""
    # Imported here: help and completion scripts do without it, and it takes as long as all else of them.
    from keyholt.blocking import connect

    return connect(options.address, timeout=patience(options))


def patience(options: Namespace) -> float | None:
    """The library's timeout for ``--timeout``, in which 0 is for as long as it takes."""
    from keyholt.blocking import CALL_TIMEOUT

    seconds: int | None = options.timeout
    return CALL_TIMEOUT if seconds is None else seconds or None
