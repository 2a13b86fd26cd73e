"""``agent``: what it says of itself, and how much of what it is told it logs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.clocks import boot_time
from keyholt_agent.vault.autolock import AutoLock
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


async def test_status_says_why_it_is_locked_and_until_when_it_is_not(inside: Inside) -> None:
    """Both deadlines while it is unlocked, and one reason while it is locked."""
    client, services = await inside.connect(), inside.services
    seen = (await client.call("agent.status")).expect().result
    assert not seen.keys() & {"locked_because", "idle_lock_in", "lifetime_lock_in"}  # nothing is configured
    autolock = AutoLock(60, 3600, boot_time)
    for name in ("_idle_timeout", "_max_lifetime"):
        setattr(services.autolock, name, getattr(autolock, name))
    services.autolock.start()
    seen = (await client.call("agent.status")).expect().result
    assert 50 < seen["idle_lock_in"] <= 60
    assert 3500 < seen["lifetime_lock_in"] <= 3600
    services.autolock._clock = lambda: 1e12
    assert (await client.call("secret.get", path="a")).code == "locked"
    seen = (await client.call("agent.status")).expect().result
    assert (seen["state"], seen["locked_because"]) == ("locked", "lifetime")
    assert not seen.keys() & {"idle_lock_in", "lifetime_lock_in"}
