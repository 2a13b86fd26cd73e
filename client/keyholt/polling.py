"""Waiting with poll(2), in a thread that may block: what the blocking client turns a channel's pump with."""

from __future__ import annotations

import select
import time
from typing import Any, Final

from keyholt.channel import Channel
from keyholt.connecting import Pause
from keyholt.exchange import Exchange
from keyholt.stream import Ready

__all__ = ["Poller"]


FAR: Final = 1_000_000.0
"""Seconds; a deadline that is farther away is none: poll(2) counts milliseconds in 31 bits."""


class Poller:
    """Waits for one descriptor at a time, of which it remembers the last: mostly it is the same again."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: Ready | None = None

    def complete(self, channel: Channel, exchange: Exchange[Any], deadline: float) -> bool:
        """Turn the channel's pump until the exchange has ended; false if the deadline came first.

        An interrupt while waiting leaves the connection usable: the late answer is received and wiped by
        whoever comes next.

        Args:
            channel: the one that the exchange was submitted to.
            exchange: what is waited for.
            deadline: until when, in ``time.monotonic`` seconds; may be infinite.
        """
        try:
            while not exchange.ended:
                ready = channel.waits_for()
                in_time = time.monotonic() < deadline if ready is None else self.wait(ready, deadline)
                if not in_time:
                    channel.abandon(exchange)
                    return False
                channel.pump()
        except BaseException:
            channel.abandon(exchange)
            raise
        return True

    def wait(self, awaited: Ready | Pause, deadline: float) -> bool:
        """Wait for it; false if the deadline came before it.

        After the deadline nothing comes in time any more, not even what is there: an agent that sends without
        end would always be.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if isinstance(awaited, Pause):
            time.sleep(min(awaited.seconds, left))
            return True
        if awaited is not self._watched:
            self._watch(awaited)
        return bool(self._poll.poll(None if left > FAR else left * 1000))

    def _watch(self, ready: Ready) -> None:
        if self._watched is not None:
            self._poll.unregister(self._watched.descriptor)
        events = select.POLLIN * ready.readable | select.POLLOUT * ready.writable
        self._poll.register(ready.descriptor, events)
        self._watched = ready
