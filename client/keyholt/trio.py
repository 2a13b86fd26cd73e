"""The client for trio: ``async with keyholt.trio.connect() as agent: await agent.get(...)``."""

from __future__ import annotations

import socket

import trio

from keyholt.address import choose
from keyholt.asynchronous import AsyncAgent
from keyholt.channel import Channel
from keyholt.secret import Secret

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

    async def wait_ready(self, channel: Channel) -> None:
        with trio.CancelScope() as scope:
            channel.interrupt = scope.cancel
            try:
                if channel.wants_write:
                    await _readable_or_writable(channel.sock)
                else:
                    await trio.lowlevel.wait_readable(channel.sock.fileno())
            finally:
                channel.interrupt = None

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def event(self) -> trio.Event:
        return trio.Event()

    def lock(self) -> trio.Lock:
        return trio.Lock()


async def _readable_or_writable(sock: socket.socket) -> None:
    async with trio.open_nursery() as nursery:

        async def writable() -> None:
            await trio.lowlevel.wait_writable(sock.fileno())
            nursery.cancel_scope.cancel()

        nursery.start_soon(writable)
        await trio.lowlevel.wait_readable(sock.fileno())
        nursery.cancel_scope.cancel()
