"""What every connection shares: one peer's does not fill the log or the memory of the rest."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.store import ListSecrets, SecretPage
from keyholt_agent.transport.unix.credentials import Credentials
from keyholt_agent.transport.unix.endpoint import RefusalLog
from tests.support.intercepting import intercept

if TYPE_CHECKING:
    import pytest

    from tests.support.inside import Inside


async def test_refused_peers_fill_no_log(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The first is told at once, the rest together, once in a while."""
    caplog.set_level(logging.INFO)
    refusals = RefusalLog()
    for turn in range(1, 4):
        for number in range(500):
            refusals.note(Credentials(pid=number, uid=7, gid=7).principal())
        assert len(caplog.records) == turn
        mock_clock.jump(RefusalLog.INTERVAL)
    assert "uid 7, pid 0" in caplog.messages[0]
    assert "500" in caplog.messages[1]


async def test_listings_wait_their_turn(
    inside: Inside, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a connection that asks for many pages and takes none, one is in memory; who reads gets all."""
    labels = {f"k{number:02}" + "é" * 30: "ü" * 128 for number in range(16)}
    peer, other = await inside.connect(), await inside.connect()
    for number in range(12):
        (await other.call("secret.put", b"", path=f"a/{number}", labels=labels)).expect()
    asked = [0]
    ask = inside.services.store.ask

    async def counted(command: ListSecrets) -> SecretPage:
        asked[0] += 1
        return await ask(command)

    intercept(monkeypatch, inside.services.store, ListSecrets, counted)
    ids = {await peer.request("secret.list") for _ in range(60)}
    await wait_all_tasks_blocked(0.05)
    assert asked[0] < 10  # as many as the socket's buffer takes, and one
    while ids:
        ids.remove((await peer.receive()).expect().id)
    assert asked[0] == 60
