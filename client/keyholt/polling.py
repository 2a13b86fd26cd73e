"""Turning a channel's pump from a thread that may block: what the blocking client waits with."""

from __future__ import annotations

import select
import time
from typing import Any

from keyholt.channel import Channel
from keyholt.exchange import Exchange
from keyholt_protocol.errors import AgentUnreachableError

__all__ = ["complete"]


def complete(channel: Channel, exchange: Exchange[Any], deadline: float | None = None) -> None:
    """Turn the pump until the exchange has ended.

    An interrupt while waiting leaves the connection usable: the late answer is received and wiped by whoever
    comes next.

    Args:
        channel: the one that the exchange was submitted to.
        exchange: what is waited for.
        deadline: until when, in ``time.monotonic`` seconds.

    Raises:
        AgentUnreachableError: the agent did not answer before the deadline.
    """
    try:
        while not exchange.ended:
            if not channel.pump() and not exchange.ended:
                _wait(channel, deadline)
    except BaseException:
        channel.abandon(exchange)
        raise


def _wait(channel: Channel, deadline: float | None) -> None:
    poll = select.poll()
    poll.register(channel.sock, select.POLLIN | (select.POLLOUT if channel.wants_write else 0))
    if deadline is None:
        poll.poll()
    elif not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise AgentUnreachableError(
            "the agent accepted the connection and does not answer; see its log, or start it again"
        )
