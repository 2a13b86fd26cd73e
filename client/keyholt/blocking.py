"""The blocking client.

- Threads may share a ``Client``: a lock lets one of them talk at a time. For requests side by side, open one
  each.
- Every call has a deadline, so that no program hangs on an agent that waits for a person or a token.
- A connection that breaks, as when the agent is restarted, is opened again once for a request that is safe to
  repeat or was not sent; otherwise ``AgentUnreachableError`` says whether a write may have happened.
- A forked child that goes on with a ``Client`` gets a connection of its own; a fork in the middle of another
  thread's call leaves the child's unusable.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, Final, TypeVar

from keyholt.address import Address, choose
from keyholt.arguments import seconds_of
from keyholt.channel import Channel
from keyholt.connecting import CONNECT_TIMEOUT, LEFT_BEHIND, Pause, connecting, no_connection, no_greeting
from keyholt.exchange import Exchange
from keyholt.invocations import Invocation, Plan, session_hello
from keyholt.methods import Methods
from keyholt.polling import Poller
from keyholt.secret import Secret
from keyholt.stream import Ready
from keyholt_protocol import messages as m
from keyholt_protocol.errors import AgentUnreachableError, InvalidRequestError, KeyholtError
from keyholt_protocol.limits import MAX_IN_FLIGHT

__all__ = ["CALL_TIMEOUT", "Client", "connect", "get"]

T = TypeVar("T")

CALL_TIMEOUT: Final = 60.0
"""Seconds that a call may take unless another time is given: enough for a person to find a token and touch
it, and little enough for somebody to be still looking when it is over."""

WINDOW: Final = MAX_IN_FLIGHT
"""Requests in flight in ``perform_all``: as many as the agent takes. When half of them are answered, as many
follow in one go, so that the agent has the other half to work on meanwhile."""


def connect(address: str | os.PathLike[str] | None = None, *, timeout: float | None = CALL_TIMEOUT) -> Client:
    """Connect to the agent; close it, or use it in a ``with``.

    Args:
        address: where the agent is, a path or another form; without it the environment and the defaults are
            asked (``keyholt.address``).
        timeout: seconds, more than 0, that each call may take; ``None`` or ``math.inf`` for as long as the
            agent takes. Each call can be given another one. Connecting may take as long, but 10 seconds at
            most.

    Raises:
        AgentUnreachableError: nobody answers there; the message says what to do.
        AgentUntrustedError: who answers there is not trusted; nothing was sent.
        DeniedError: the agent does not serve this user, or its socket is closed to them.
        InvalidRequestError: the address has no known form, or the timeout is no length of time.
    """
    return Client(choose(address), timeout=timeout)


def get(
    path: str,
    *,
    version: int | None = None,
    address: str | os.PathLike[str] | None = None,
    timeout: float | None = CALL_TIMEOUT,
) -> Secret:
    """Fetch one secret over a connection of its own; see ``Client.get``."""
    with connect(address, timeout=timeout) as client:
        return client.get(path, version=version)


class _GivenUpError(Exception):
    """A connection did not come in time.

    Attributes:
        error: what to say of that where the time was what connecting has.
    """

    def __init__(self, error: AgentUnreachableError) -> None:
        super().__init__()
        self.error = error


class Client(Methods):
    """A connection to the agent. Made by ``connect``.

    Attributes:
        greeting: what the agent said of itself when the connection was opened.
    """

    def __init__(self, address: Address, *, timeout: float | None = CALL_TIMEOUT) -> None:
        self._address = address
        self._timeout = seconds_of(timeout)
        self._lock = threading.Lock()
        self._poller = Poller()
        self._closed = False
        self._owner = os.getpid()
        try:
            self._channel, self.greeting = self._open(time.monotonic() + self._timeout)
        except _GivenUpError as late:
            raise late.error from None

    def close(self) -> None:
        """Close the connection; closing it twice is no error."""
        with self._lock:
            self._closed = True
            self._channel.fail()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def perform(self, invocation: Invocation[T], timeout: float | None = None) -> T:
        """Send one request and wait for its answer, on a new connection if the old one broke and it is safe.

        Args:
            invocation: what to send.
            timeout: as of every method.

        Raises:
            DeadlineExceededError: the time is over; says whether the request may have been carried out.
            KeyholtError: what the agent answered, or how the connection failed.
        """
        seconds = self._timeout if timeout is None else seconds_of(timeout)
        deadline = time.monotonic() + seconds
        exchange = Exchange(invocation)
        if not self._lock.acquire(blocking=False):
            self._await_turn(exchange, deadline, seconds)
        try:
            self._attempt(exchange, deadline, seconds)
            if exchange.repeatable:
                exchange.renew()
                self._attempt(exchange, deadline, seconds)
        finally:
            self._lock.release()
        return exchange.outcome()

    def perform_all(self, invocations: Iterable[Invocation[T]], timeout: float | None = None) -> Iterator[T]:
        """Send many requests, pipelined, and yield their results in order; the first error ends it.

        The connection is not opened again in between: what has been answered has been yielded. ``timeout`` is
        for each answer.
        """
        seconds = self._timeout if timeout is None else seconds_of(timeout)
        waiting = map(Exchange, invocations)
        exchanges = deque(islice(waiting, 1))
        if not exchanges:
            return
        if not self._lock.acquire(blocking=False):
            self._await_turn(exchanges[0], time.monotonic() + seconds, seconds)
        try:
            channel = self._connected(exchanges[0], time.monotonic() + seconds, seconds)
            channel.enqueue(exchanges[0])
            while exchanges:
                if len(exchanges) <= WINDOW // 2:
                    for exchange in islice(waiting, WINDOW - len(exchanges)):
                        exchanges.append(exchange)
                        channel.enqueue(exchange)
                    channel.flush()
                if not self._poller.complete(channel, exchanges[0], time.monotonic() + seconds):
                    raise exchanges[0].overdue(seconds, self._address)
                yield exchanges.popleft().outcome()
        finally:
            for exchange in exchanges:
                self._channel.abandon(exchange)
            self._lock.release()

    def follow(self, plan: Plan[T], timeout: float | None = None) -> T:
        """Make the invocations of a plan one after the other; ``timeout`` is for each answer."""
        try:
            invocation = next(plan)
            while True:
                invocation = plan.send(self.perform(invocation, timeout))
        except StopIteration as end:
            result: T = end.value
            return result

    def _await_turn(self, exchange: Exchange[T], deadline: float, seconds: float) -> None:
        """Take the lock, which another thread holds for its call."""
        left = min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        if not self._lock.acquire(timeout=left):
            raise exchange.overdue(seconds, self._address)

    def _attempt(self, exchange: Exchange[T], deadline: float, seconds: float) -> None:
        channel = self._connected(exchange, deadline, seconds)
        channel.submit(exchange)
        if not self._poller.complete(channel, exchange, deadline):
            raise exchange.overdue(seconds, self._address)

    def _connected(self, exchange: Exchange[Any], deadline: float, seconds: float) -> Channel:
        if self._owner != os.getpid():
            # A forked child: the connection is the parent's, and so are the answers on it.
            self._channel.fail()
            self._owner = os.getpid()
        if self._channel.finishing:
            self._channel.fail()  # of what is still to be answered there, nobody waits for anything
            if self._closed:
                raise InvalidRequestError(
                    "this connection to the agent was closed; open another one with connect()"
                )
            try:
                self._channel, self.greeting = self._open(deadline)
            except _GivenUpError as late:
                if time.monotonic() < deadline:
                    raise late.error from None
                # The call had less time than a connection has: that says nothing of the agent.
                raise exchange.overdue(seconds, self._address) from None
        return self._channel

    def _open(self, deadline: float) -> tuple[Channel, m.SessionHelloResult]:
        """A connection and its greeting.

        Raises:
            _GivenUpError: they did not come in time.
            KeyholtError: they cannot be had.
        """
        seconds = min(CONNECT_TIMEOUT, max(0.0, deadline - time.monotonic()))
        deadline = time.monotonic() + seconds
        failure: KeyholtError | _GivenUpError | None = None
        with closing(connecting(self._address)) as steps:
            for step in steps:
                if isinstance(step, Ready | Pause):
                    until = deadline if failure is None else min(deadline, time.monotonic() + LEFT_BEHIND)
                    if not self._poller.wait(step, until):
                        raise failure or _GivenUpError(no_connection(self._address, seconds))
                else:
                    try:
                        return self._greet(Channel(step, self._address), deadline)
                    except (KeyholtError, _GivenUpError) as error:
                        failure = error  # it may have been over before it was ours: another one may follow
        raise failure or AssertionError("the steps of connecting end with a stream")

    def _greet(self, channel: Channel, deadline: float) -> tuple[Channel, m.SessionHelloResult]:
        exchange = Exchange(session_hello())
        try:
            channel.submit(exchange)
            if not self._poller.complete(channel, exchange, deadline):
                raise _GivenUpError(no_greeting(self._address))
            greeting = exchange.outcome()
            channel.max_in_flight = greeting.max_in_flight
            return channel, greeting
        except BaseException:
            channel.fail()
            raise
