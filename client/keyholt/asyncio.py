"""The client for asyncio: ``async with keyholt.asyncio.connect() as agent: await agent.get(...)``."""

from __future__ import annotations

import asyncio

from keyholt.address import choose
from keyholt.asynchronous import AsyncAgent
from keyholt.channel import Channel
from keyholt.secret import Secret
from keyholt.stream import Ready

__all__ = ["Agent", "connect", "get"]

Agent = AsyncAgent
"""What ``connect`` gives, for annotations: ``async def work(agent: keyholt.asyncio.Agent) -> None``."""


def connect(address: str | None = None) -> Agent:
    """The agent, connected while ``async with`` lasts; set a deadline with ``asyncio.timeout``.

    Args:
        address: where the agent is; without it the environment and the defaults are asked
            (``keyholt.address``).

    Raises:
        AgentUnreachableError: (on entering) nobody answers there; the message says what to do.
        InvalidRequestError: the address has no known form.
    """
    return Agent(choose(address), _Kit)


async def get(path: str, *, version: int | None = None, address: str | None = None) -> Secret:
    """Fetch one secret over a connection of its own."""
    async with connect(address) as agent:
        return await agent.get(path, version=version)


class _Kit:
    """asyncio's share of ``keyholt.asynchronous``."""

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

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    def lock(self) -> asyncio.Lock:
        return asyncio.Lock()
