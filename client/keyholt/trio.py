"""The client for trio: ``async with keyholt.trio.connect() as agent: await agent.get(...)``."""

from __future__ import annotations

import trio

from keyholt.address import choose
from keyholt.asynchronous import AsyncAgent
from keyholt.channel import Channel
from keyholt.secret import Secret
from keyholt.stream import Ready

__all__ = ["Agent", "connect", "get"]

Agent = AsyncAgent
"""What ``connect`` gives, for annotations: ``async def work(agent: keyholt.trio.Agent) -> None``."""


def connect(address: str | None = None) -> Agent:
    """The agent, connected while ``async with`` lasts; set a deadline with ``trio.fail_after``.

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
    """trio's share of ``keyholt.asynchronous``."""

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
