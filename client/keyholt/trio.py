"""The client for trio: ``async with keyholt.trio.connect() as agent: await agent.get(...)``.

Where no block fits, ``agent = await keyholt.trio.connect()``, and in the end ``await agent.close()``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import trio

from keyholt.address import choose
from keyholt.asynchronous import AsyncClient
from keyholt.blocking import CALL_TIMEOUT
from keyholt.channel import Channel
from keyholt.secret import Secret
from keyholt.stream import Ready

__all__ = ["Client", "connect", "get"]

Client = AsyncClient
"""What ``connect`` gives, for annotations: ``async def work(agent: keyholt.trio.Client) -> None``."""


def connect(address: str | os.PathLike[str] | None = None, *, timeout: float | None = CALL_TIMEOUT) -> Client:
    """The agent, connected while ``async with`` lasts, or from ``await`` until its ``close``.

    Args:
        address: where the agent is, a path or another form; without it the environment and the defaults are
            asked (``keyholt.address``).
        timeout: as of ``keyholt.connect``; a cancel scope around a call may end it earlier.

    Raises:
        AgentUnreachableError: (when it is opened) nobody answers there; the message says what to do.
        AgentUntrustedError: (when it is opened) who answers there is not trusted; nothing was sent.
        DeniedError: (when it is opened) the agent does not serve this user, or its socket is closed to them.
        InvalidRequestError: the address has no known form, or the timeout is no length of time.
    """
    return Client(choose(address), _Trio, timeout=timeout)


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


class _Trio:
    """trio as ``keyholt.asynchronous`` needs it."""

    async def wait(self, ready: Ready, channel: Channel | None = None) -> None:
        if channel is None:
            await _wait(ready)
            return
        with trio.CancelScope() as scope:
            channel.interrupt = scope.cancel
            try:
                await _wait(ready)
            finally:
                channel.interrupt = None

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def turn(self) -> None:
        await trio.lowlevel.checkpoint()

    async def within(self, seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
        with trio.move_on_after(max(0.0, seconds)) as scope:
            await work()
        return not scope.cancelled_caught

    def event(self) -> trio.Event:
        return trio.Event()

    def lock(self) -> trio.Lock:
        return trio.Lock()


async def _wait(ready: Ready) -> None:
    if not ready.writable:
        await trio.lowlevel.wait_readable(ready.descriptor)
    elif not ready.readable:
        await trio.lowlevel.wait_writable(ready.descriptor)
    else:
        async with trio.open_nursery() as nursery:

            async def writable() -> None:
                await trio.lowlevel.wait_writable(ready.descriptor)
                nursery.cancel_scope.cancel()

            nursery.start_soon(writable)
            await trio.lowlevel.wait_readable(ready.descriptor)
            nursery.cancel_scope.cancel()
