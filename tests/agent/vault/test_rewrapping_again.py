"""Rewrapping that fails, of itself or for the store: the agent goes on, and it is tried again."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.store import ReadWrappedKeys, RetireMasterVersion, RewrapKeys
from keyholt_agent.vault.rewrapping import LONGEST_PAUSE, PAUSE, Rewrapping
from keyholt_protocol.errors import StoreUnavailableError
from tests.agent.vault.rewrapped import PATHS, check_values, wait_rewrapped
from tests.agent.vault.stored import wrapped_by
from tests.support.intercepting import intercept

if TYPE_CHECKING:
    from keyholt_agent.services import Services
    from tests.support.inside import Inside, Peer

FAILURES = {
    "store": (StoreUnavailableError("the disk is on fire"), "not rewrapped yet: the disk is on fire"),
    "defect": (ZeroDivisionError("CANARY"), "defect: ZeroDivisionError at "),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("command", [ReadWrappedKeys, RewrapKeys, RetireMasterVersion])
async def test_what_fails_for_a_while(
    derived: Inside,
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    command: type[Any],
    failure: str,
) -> None:
    """It is said, a defect by its place, and tried again until it is done; meanwhile the agent serves."""
    services, ask = derived.services, derived.services.store.ask
    error, said = FAILURES[failure]
    failures = 0

    async def fail(asked: Any) -> Any:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise error
        return await ask(asked)

    intercept(monkeypatch, services.store, command, fail)
    (await peer.call("store.rekey")).expect()
    await wait_rewrapped(services)
    assert caplog.text.count(said) == 3
    assert "CANARY" not in caplog.text
    assert await wrapped_by(services, 2) == PATHS
    await check_values(peer, PATHS[:2])


async def test_pauses_grow(
    services: Services,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twice as long after each failure, up to a bound; none for who unlocks; short again after a success."""
    tried: list[float] = []
    fails = True

    async def rewrap_all(_: Rewrapping) -> None:
        tried.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if fails:
            raise ZeroDivisionError

    monkeypatch.setattr(Rewrapping, "_rewrap_all", rewrap_all)
    nursery.start_soon(services.rewrapping.run)
    await wait_all_tasks_blocked()
    assert tried == []
    services.rewrapping.begin()
    await trio.sleep(4000)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    expected = [min(PAUSE * 2**number, LONGEST_PAUSE) for number in range(len(pauses))]
    assert pauses == pytest.approx(expected)
    assert pauses[-2:] == pytest.approx([LONGEST_PAUSE] * 2)
    fails = False
    services.rewrapping.begin()
    await wait_all_tasks_blocked()
    assert (tried[-1], services.rewrapping.left) == (trio.current_time(), None)
    before, fails = len(tried), True
    services.rewrapping.begin()
    await trio.sleep(PAUSE * 1.5)
    assert len(tried) == before + 2
