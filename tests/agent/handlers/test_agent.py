"""``agent``: what it says of itself, and how much of what it is told it logs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_protocol.errors import IntegrityError, KeyholtError, StoreUnavailableError

if TYPE_CHECKING:
    from tests.support.inside import Inside


@pytest.mark.parametrize(
    "problem", [StoreUnavailableError("no room: free some"), IntegrityError("a row is bad")]
)
async def test_status_tells_what_is_wrong_with_the_store(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, problem: KeyholtError
) -> None:
    """A store that fails is a line of the answer, not its end; without a failure there is no such line."""
    client = await inside.connect()
    assert "problem" not in (await client.call("agent.status")).expect().result

    async def failing() -> None:
        await trio.lowlevel.checkpoint()
        raise problem

    monkeypatch.setattr(inside.services.store, "statistics", failing)
    result = (await client.call("agent.status")).expect().result
    assert result["problem"] == str(problem)
    assert result["state"] == "unlocked"
    assert "store_secrets" not in result


async def test_locking_again_fills_no_log(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """A lock that changed something is a line; whoever asks for it a thousand times makes no more of them."""
    caplog.set_level(logging.INFO)
    client = await inside.connect()
    for _ in range(50):
        (await client.call("agent.lock")).expect()
    assert [record.getMessage() for record in caplog.records] == [
        f"locked by uid 4711, pid {(await client.call('agent.status')).result['pid']}"
    ]
