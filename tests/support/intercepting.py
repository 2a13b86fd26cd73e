"""Between an agent and its store: a test's own function in the place of one command's answer, or a gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from keyholt_agent.store import Store
    from keyholt_agent.store.commands import Command

__all__ = ["Gate", "intercept"]

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds, at most, for a command that has to come."""


def intercept(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    kind: type[Command[T]],
    instead: Callable[[Any], Awaitable[T]],
) -> None:
    """Have ``instead`` answer every command of class ``kind``; an ``ask`` of before reaches the store."""
    ask = store.ask

    async def intercepted(command: Command[Any]) -> Any:
        return await (instead(command) if isinstance(command, kind) else ask(command))

    monkeypatch.setattr(store, "ask", intercepted)


class Gate:
    """Lets commands of a class through one by one; they come one after another.

    Attributes:
        waiting: set while one stands before it.
    """

    def __init__(self, store: Store, patch: pytest.MonkeyPatch, kind: type[Command[Any]]) -> None:
        self.waiting = trio.Event()
        self._go_on = trio.Event()
        self._ask = store.ask
        intercept(patch, store, kind, self._pass)

    async def wait(self) -> None:
        """Wait until a command has come."""
        with trio.fail_after(PATIENCE):
            await self.waiting.wait()

    def go_on(self) -> None:
        """Let it through."""
        self.waiting = trio.Event()
        self._go_on.set()

    async def _pass(self, asked: Command[T]) -> T:
        self._go_on = trio.Event()
        self.waiting.set()
        await self._go_on.wait()
        return await self._ask(asked)
