"""The connection that a command talks over, as the options of every command say."""

from __future__ import annotations

import math
from argparse import Namespace

from keyholt import Client, connect
from keyholt.blocking import CALL_TIMEOUT

__all__ = ["connected"]


def connected(options: Namespace) -> Client:
    """The agent at ``--address``, with the time that ``--timeout`` gives it for each answer."""
    seconds: int | None = options.timeout
    return connect(options.address, timeout=CALL_TIMEOUT if seconds is None else seconds or math.inf)
