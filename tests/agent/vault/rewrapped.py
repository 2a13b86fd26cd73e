"""Secrets of an agent inside the test whose data keys are rewrapped, and what must hold of them after."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from keyholt_agent.store import ReadMasterKeys
from tests.support.agent_process import PASSPHRASE
from tests.support.intercepting import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from keyholt_agent.services import Services
    from keyholt_agent.store.commands import Command
    from tests.support.inside import Peer

__all__ = ["PATHS", "PATIENCE", "check_values", "rekeyed", "wait_rewrapped"]

PATHS: Final = [f"p/{number:02}" for number in range(10)]
"""Each secret's value is its path."""

PATIENCE: Final = 20.0
"""Seconds, at most, for what the store's thread has to come to."""


async def wait_rewrapped(services: Services) -> None:
    """Wait until no version is retiring any more."""
    with trio.fail_after(PATIENCE):
        while any(row.retiring for row in await services.store.ask(ReadMasterKeys())):
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def rekeyed(
    services: Services, peer: Peer, monkeypatch: pytest.MonkeyPatch, kind: type[Command[Any]]
) -> AsyncIterator[Gate]:
    """A new root key, whose rewrapping waits before a command of class ``kind`` until the block ends."""
    with monkeypatch.context() as patch:
        gate = Gate(services.store, patch, kind)
        (await peer.call("store.rekey")).expect()
        await gate.wait()
        yield gate
    gate.go_on()


async def check_values(peer: Peer, paths: Sequence[str] = PATHS) -> None:
    """Each secret is there, cached or not, before and after a lock."""
    for _ in range(2):
        for path in paths:
            for version in ({}, {"version": 1}):
                assert (await peer.call("secret.get", path=path, **version)).expect().payload == path.encode()
        (await peer.call("agent.lock")).expect()
        (await peer.call("agent.unlock", PASSPHRASE)).expect()
