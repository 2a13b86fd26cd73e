"""The client for tasks, whatever runs them: what ``keyholt.trio`` and ``keyholt.asyncio`` share.

- Tasks may share one ``AsyncClient``: their requests are pipelined, and answers may overtake each other.
- There is no background task: of the tasks that wait for an answer one turns the channel's pump for all of
  them and hands it over when its own answer is there. Hence no nursery is held, and an idle connection costs
  nothing.
- A cancelled task takes nobody's answer along (see ``keyholt.channel``).
- Every call has a deadline, and may be cancelled before it as any call (``trio.fail_after``,
  ``asyncio.timeout``).
- A connection that breaks is opened again once, as ``keyholt.blocking`` says.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, closing
from functools import partial
from typing import Any, Protocol, TypeVar

from keyholt.address import Address
from keyholt.arguments import seconds_of
from keyholt.async_methods import AsyncMethods
from keyholt.channel import Channel
from keyholt.connecting import CONNECT_TIMEOUT, LEFT_BEHIND, Pause, connecting, no_connection
from keyholt.exchange import Exchange
from keyholt.invocations import Invocation, Plan, session_hello
from keyholt.stream import Ready
from keyholt_protocol import messages as m
from keyholt_protocol.errors import InvalidRequestError, KeyholtError

__all__ = ["AsyncClient", "Event", "TaskLibrary"]

T = TypeVar("T")


class Event(Protocol):
    """What one task waits for and another sets."""

    def set(self) -> None: ...

    async def wait(self) -> object: ...


class TaskLibrary(Protocol):
    """What this module needs of the library that runs the tasks."""

    async def wait(self, ready: Ready, channel: Channel | None = None) -> None:
        """Wait for a descriptor; the ``interrupt`` of the channel, if one is given, ends the waiting."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def turn(self) -> None:
        """Let the other tasks have their turn, and be cancelled if that is due."""
        ...

    async def within(self, seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
        """Do the work; false if it was cancelled because the time, which may be infinite, was over."""
        ...

    def event(self) -> Event: ...

    def lock(self) -> AbstractAsyncContextManager[object]: ...


class AsyncClient(AsyncMethods):
    """A connection to the agent for tasks: opened by ``await`` and closed by ``close``, or by ``async with``.

    Attributes:
        greeting: what the agent said of itself; ``None`` before the connection is open.
    """

    def __init__(
        self, address: Address, library: Callable[[], TaskLibrary], *, timeout: float | None
    ) -> None:
        self.greeting: m.SessionHelloResult | None = None
        self._address = address
        self._make_library = library
        self._timeout = seconds_of(timeout)
        self._channel: Channel | None = None
        self._finishing: list[Channel] = []  # those before it whose answers are still waited for
        self._closed = True

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self._closed = True
        for channel in self._finishing:
            channel.fail()
        if self._channel is not None:
            self._channel.fail()

    async def __aenter__(self) -> AsyncClient:
        if not self._closed:  # it was awaited before
            return self
        self._library = self._make_library()
        self._opening = self._library.lock()
        self._closed = False
        try:
            if not await self._library.within(self._timeout, self._connected):
                raise no_connection(self._address, self._timeout)
        except BaseException:
            self._closed = True  # who was not let in has nothing to close
            raise
        return self

    def __await__(self) -> Generator[Any, Any, AsyncClient]:
        return self.__aenter__().__await__()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def perform(self, invocation: Invocation[T], timeout: float | None = None) -> T:
        """Send one request and wait for its answer, on a new connection if the old one broke and it is safe.

        Args:
            invocation: what to send.
            timeout: as of every method.

        Raises:
            DeadlineExceededError: the time is over; says whether the request may have been carried out.
            InvalidRequestError: there is no connection: it was neither awaited nor entered, or is closed.
            KeyholtError: what the agent answered, or how the connection failed.
        """
        self._require_open()  # only in an ``async with`` is there a library to wait with
        seconds = self._timeout if timeout is None else seconds_of(timeout)
        exchange = Exchange(invocation)

        async def attempts() -> None:
            await self._attempt(exchange)
            if exchange.repeatable and not self._closed:
                exchange.renew()
                await self._attempt(exchange)

        if not await self._library.within(seconds, attempts):
            raise exchange.overdue(seconds, self._address)
        return exchange.outcome()

    async def follow(self, plan: Plan[T], timeout: float | None = None) -> T:
        """Make the invocations of a plan one after the other; ``timeout`` is for each answer."""
        try:
            invocation = next(plan)
            while True:
                invocation = plan.send(await self.perform(invocation, timeout))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _attempt(self, exchange: Exchange[T]) -> None:
        channel = await self._connected()
        channel.submit(exchange)
        await self._complete(channel, exchange)

    async def _connected(self) -> Channel:
        self._require_open()
        if self._channel is not None and not self._channel.finishing:
            return self._channel
        async with self._opening:  # of the tasks that lost a connection one opens the next
            if self._channel is None or self._channel.finishing:
                opened: list[Channel] = []

                async def open_one() -> None:
                    opened.append(await self._open())

                if not await self._library.within(CONNECT_TIMEOUT, open_one):
                    raise no_connection(self._address, CONNECT_TIMEOUT)
                try:
                    self._require_open()
                except InvalidRequestError:  # it was closed meanwhile, and nobody would close what was opened
                    opened[0].fail()
                    raise
                before = (*self._finishing, self._channel)
                self._finishing = [one for one in before if one is not None and not one.failed]
                self._channel = opened[0]
            return self._channel

    def _require_open(self) -> None:
        if self._closed:
            raise InvalidRequestError(
                "this connection to the agent is not open; use it inside `async with connect()`, or after "
                "`await connect()`"
            )

    async def _open(self) -> Channel:
        failure: KeyholtError | None = None
        with closing(connecting(self._address)) as steps:
            for step in steps:
                if isinstance(step, Pause):
                    await self._library.sleep(step.seconds)
                elif isinstance(step, Ready):
                    seconds = math.inf if failure is None else LEFT_BEHIND
                    if not await self._library.within(seconds, partial(self._library.wait, step)):
                        break
                else:
                    try:
                        return await self._greet(Channel(step, self._address))
                    except KeyholtError as error:
                        failure = error  # it may have been over before it was ours: another one may follow
        raise failure or AssertionError("the steps of connecting end with a stream")

    async def _greet(self, channel: Channel) -> Channel:
        exchange = Exchange(session_hello())
        try:
            channel.submit(exchange)
            await self._complete(channel, exchange)
            self.greeting = exchange.outcome()
            channel.max_in_flight = self.greeting.max_in_flight
            return channel
        except BaseException:
            channel.fail()
            raise

    async def _complete(self, channel: Channel, exchange: Exchange[Any]) -> None:
        """Wait for the exchange's end, turning the pump whenever nobody else does."""
        try:
            while not exchange.ended:
                if channel.leading:
                    event = self._library.event()
                    exchange.wake = event.set
                    await event.wait()
                else:
                    await self._lead(channel, exchange)
        except BaseException:
            channel.abandon(exchange)
            raise
        finally:
            channel.hand_over()

    async def _lead(self, channel: Channel, exchange: Exchange[Any]) -> None:
        channel.leading = True
        try:
            while not exchange.ended:
                ready = None if channel.pump() else channel.waits_for()
                if not exchange.ended:
                    # An agent may see to it that there always is something to move.
                    await (self._library.turn() if ready is None else self._library.wait(ready, channel))
        finally:
            channel.leading = False
            if channel.failed:
                channel.fail()  # its stream was left open while this task might have been waiting on it
