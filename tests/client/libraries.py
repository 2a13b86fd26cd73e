"""What the tests of the clients for tasks do with either library: run, run at once, and cancel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import keyholt
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.messages import SecretGetResult
from tests.client.scripted import Peer

PATIENCE = 20
Task = Callable[[], Awaitable[Any]]


class Trio:
    """How the tests do things with trio."""

    connect = staticmethod(keyholt.trio.connect)
    get = staticmethod(keyholt.trio.get)

    def run(self, main: Task) -> None:
        async def bounded() -> None:
            with trio.fail_after(PATIENCE):
                await main()

        trio.run(bounded)

    async def all(self, tasks: list[Task]) -> list[Any]:
        """Run all tasks at once; their results or exceptions."""
        results: list[Any] = [None] * len(tasks)

        async def one(index: int) -> None:
            try:
                results[index] = await tasks[index]()
            except Exception as error:
                results[index] = error

        async with trio.open_nursery() as nursery:
            for index in range(len(tasks)):
                nursery.start_soon(one, index)
        return results

    async def cancelled_when(self, task: Task, event: threading.Event) -> None:
        """Start the task and cancel it once the event is set."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
            await trio.to_thread.run_sync(event.wait, PATIENCE)
            nursery.cancel_scope.cancel()


class Asyncio:
    """How the tests do things with asyncio."""

    connect = staticmethod(keyholt.asyncio.connect)
    get = staticmethod(keyholt.asyncio.get)

    def run(self, main: Task) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await main()

        asyncio.run(bounded())

    async def all(self, tasks: list[Task]) -> list[Any]:
        return await asyncio.gather(*(task() for task in tasks), return_exceptions=True)

    async def cancelled_when(self, task: Task, event: threading.Event) -> None:
        running = asyncio.ensure_future(task())
        await asyncio.to_thread(event.wait, PATIENCE)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


Library = Trio | Asyncio


def answer_get(peer: Peer, request: RequestReceived, value: bytes | None = None) -> None:
    """Answer a get with its path as the value."""
    path = str(request.args["path"]).encode()
    peer.answer(request, SecretGetResult(version=1, created=1), path if value is None else value)
