"""The client for asyncio: ``async with keyholt.asyncio.connect() as agent: await agent.get(...)``.

Where no block fits, ``agent = await keyholt.asyncio.connect()``, and in the end ``await agent.close()``.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable

from keyholt.address import choose
from keyholt.asynchronous import AsyncClient
from keyholt.blocking import CALL_TIMEOUT
from keyholt.channel import Channel
from keyholt.secret import Secret
from keyholt.stream import Ready

__all__ = ["Client", "connect", "get"]

Client = AsyncClient
"""What ``connect`` gives, for annotations: ``async def work(agent: keyholt.asyncio.Client) -> None``."""


def connect(address: str | os.PathLike[str] | None = None, *, timeout: float | None = CALL_TIMEOUT) -> Client:
    """The agent, connected while ``async with`` lasts, or from ``await`` until its ``close``.

    Args:
        address: where the agent is, a path or another form; without it the environment and the defaults are
            asked (``keyholt.address``).
        timeout: as of ``keyholt.connect``; ``asyncio.timeout`` around a call may end it earlier.

    Raises:
        AgentUnreachableError: (when it is opened) nobody answers there; the message says what to do.
        AgentUntrustedError: (when it is opened) who answers there is not trusted; nothing was sent.
        DeniedError: (when it is opened) the agent does not serve this user, or its socket is closed to them.
        InvalidRequestError: the address has no known form, or the timeout is no length of time.
    """
    return Client(choose(address), _Asyncio, timeout=timeout)


async def get(
    path: str,
    *,
    version: int | None = None,
    address: str | os.PathLike[str] | None = None,
    timeout: float | None = CALL_TIMEOUT,
) -> Secret:
    """Fetch one secret over a connection of its own."""
    async with connect(address, timeout=timeout) as client:
        return await client.get(path, version=version)


class _Asyncio:
    """asyncio as ``keyholt.asynchronous`` needs it."""

    async def wait(self, ready: Ready, channel: Channel | None = None) -> None:
        # Readiness is awaited and data is not: a task cancelled just after loop.sock_recv_into has received
        # would lose the bytes, and with them everybody's place in the stream.
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not awaited.done():
                awaited.set_result(None)

        if channel is not None:
            channel.interrupt = wake
        if ready.readable:
            loop.add_reader(ready.descriptor, wake)
        if ready.writable:
            loop.add_writer(ready.descriptor, wake)
        try:
            await awaited
        finally:
            if channel is not None:
                channel.interrupt = None
            loop.remove_reader(ready.descriptor)
            loop.remove_writer(ready.descriptor)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def within(self, seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
        scope = asyncio.timeout(None if math.isinf(seconds) else seconds)
        try:
            async with scope:
                await work()
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        return True

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    def lock(self) -> asyncio.Lock:
        return asyncio.Lock()
