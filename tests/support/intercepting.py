"""Puts a function of a test's own in the place of one command's answer; all others reach the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from keyholt_agent.store import Store
    from keyholt_agent.store.commands import Command

__all__ = ["intercept"]

T = TypeVar("T")


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
