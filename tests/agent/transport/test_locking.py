"""A locked agent delivers nothing: what was opened and has not left is dropped, by whomever it is locked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.config import Settings, UnlockSettings
from keyholt_agent.store.commands import ReadSecret
from keyholt_protocol.errors import LockedError
from keyholt_protocol.operations import Needs
from tests.support.intercepting import intercept
from tests.support.wire import ClosedError, request_frame

if TYPE_CHECKING:
    from tests.support.inside import Inside, Peer

BIG: Final = 1024 * 1024
"""Bytes of a value that no socket takes whole."""

WHOLE: Final = 16 * 1024
"""Bytes of a value that a socket takes whole or not at all."""


async def put(peer: Peer, size: int, path: str = "big") -> bytes:
    """Write a value of that size; gives it."""
    value = os.urandom(size)
    (await peer.call("secret.put", value, path=path)).expect()
    return value


async def rest(peer: Peer) -> tuple[list[bytes], list[str], int]:
    """What a peer gets until its connection ends: values, codes of errors, bytes of half a frame."""
    values: list[bytes] = []
    codes: list[str] = []
    while True:
        try:
            with trio.fail_after(10):
                reply = await peer.receive()
        except ClosedError:
            return values, codes, len(peer.reader._data)
        if reply.code:
            codes.append(reply.code)
        else:
            values.append(reply.payload)


async def by_request(inside: Inside) -> None:
    """Another peer's."""
    (await (await inside.connect()).call("agent.lock")).expect()


async def by_time(inside: Inside) -> None:
    """The loop that locks when the time for it has come."""
    inside.services.autolock._clock = lambda: 1e12
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inside.services.vault.lock_in_time)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def by_the_gate(inside: Inside) -> None:
    """A request that comes between the time and that loop."""
    inside.services.autolock._clock = lambda: 1e12
    with pytest.raises(LockedError):
        inside.services.vault.require(Needs.UNLOCKED)


WAYS: Final = (by_request, by_time, by_the_gate)


@pytest.fixture
def settings() -> Settings:
    """Locks itself after an hour."""
    return Settings(unlock=UnlockSettings(kdf_target=0, idle_timeout=3600, max_lifetime=0))


@pytest.mark.parametrize("lock", WAYS)
async def test_half_a_value_ends_its_connection(inside: Inside, lock: Any) -> None:
    """Its memory is back when the agent is locked; the peer gets what it was sent, and then the end."""
    peer = await inside.connect()
    await put(peer, BIG)
    for _ in range(5):
        await peer.request("secret.get", path="big")
    await wait_all_tasks_blocked()
    assert inside.held >= BIG
    await lock(inside)
    assert inside.services.vault.state.value == "locked"
    assert inside.services.arena.usage.used == len(inside.buffer)
    values, codes, half = await rest(peer)
    assert (values, codes) == ([], [])
    assert 0 < half < BIG


@pytest.mark.parametrize("lock", WAYS)
async def test_whole_values_that_have_not_left_are_answered_locked(inside: Inside, lock: Any) -> None:
    """So are fetches that wait for their turn; the connection goes on."""
    peer = await inside.connect()
    await put(peer, WHOLE)
    for _ in range(60):
        await peer.request("secret.get", path="big")
    await wait_all_tasks_blocked()
    assert inside.held >= WHOLE
    await lock(inside)
    assert inside.services.arena.usage.used == len(inside.buffer)
    with trio.fail_after(10):
        replies = [await peer.receive() for _ in range(60)]
    taken = [reply for reply in replies if not reply.code]
    assert 0 < len(taken) < 59
    assert {reply.code for reply in replies} == {"", "locked"}
    assert len({reply.id for reply in replies}) == 60
    assert (await peer.call("agent.status")).result["state"] == "locked"


async def test_connection_that_locks_while_it_owes_the_taking_of_a_value(inside: Inside) -> None:
    """It ends like any other with half a value: its own lock took place, and is not answered."""
    peer = await inside.connect()
    await put(peer, BIG)
    await peer.send(
        request_frame(70, "secret.get", {"path": "big"})
        + request_frame(71, "agent.lock", {})
        + request_frame(72, "agent.status", {})
    )
    await wait_all_tasks_blocked()
    assert inside.services.arena.usage.used == len(inside.buffer)
    values, codes, half = await rest(peer)
    assert (values, codes) == ([], [])
    assert half > 0
    with trio.fail_after(10):
        while inside.services.connections.count:  # the lock waits for the store's thread
            await wait_all_tasks_blocked(0.001)


async def test_answers_without_a_value_stay(inside: Inside) -> None:
    """A peer that is slow to take its listings, or what is said of the agent, gets them all."""
    peer = await inside.connect()
    for number in range(200):
        await put(peer, 1, f"{number:03}" + "x" * 400)
    for _ in range(3):
        await peer.request("secret.list")
        await wait_all_tasks_blocked()
    for _ in range(60):
        await peer.request("agent.status")
        await wait_all_tasks_blocked()
    await by_request(inside)
    replies = [await peer.receive() for _ in range(63)]
    assert {reply.code for reply in replies} <= {"", "locked"}
    assert sum(not reply.code for reply in replies) >= 61


async def test_fetch_that_the_store_is_still_asked_for(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record comes too late: it is answered ``locked``, and so are those behind it."""
    peer = await inside.connect()
    await put(peer, 100)
    await put(peer, 100)
    ask, asked, gate = inside.services.store.ask, trio.Event(), trio.Event()

    async def held(command: ReadSecret) -> Any:
        found = await ask(command)
        asked.set()
        await gate.wait()
        return found

    intercept(monkeypatch, inside.services.store, ReadSecret, held)
    ids = [await peer.request("secret.get", path="big", version=1) for _ in range(5)]
    await asked.wait()
    await by_request(inside)
    gate.set()
    replies = [await peer.receive() for _ in ids]
    assert sorted(reply.id for reply in replies) == ids
    assert {reply.code for reply in replies} == {"locked"}
    assert inside.services.arena.usage.used == len(inside.buffer)


async def test_peers_that_left_hinder_no_lock(inside: Inside) -> None:
    """Half-taken values of peers that have gone meanwhile, and of some that have not."""
    peers = [await inside.connect() for _ in range(4)]
    await put(peers[0], BIG // 2)
    for peer in peers:
        await peer.request("secret.get", path="big")
    await wait_all_tasks_blocked()
    for peer in peers[::2]:
        peer.stream.socket.close()
    await by_request(inside)
    assert inside.services.arena.usage.used == len(inside.buffer)
    for peer in peers[1::2]:
        assert (await rest(peer))[:2] == ([], [])
    await wait_all_tasks_blocked()
    assert inside.services.connections.count == 1  # that of whoever locked


async def test_a_locked_connection_owes_nothing_more(inside: Inside, mock_clock: MockClock) -> None:
    """The deadline of an answer that was dropped ends nobody later."""
    peer = await inside.connect()
    await put(peer, WHOLE)
    for _ in range(60):
        await peer.request("secret.get", path="big")
    await wait_all_tasks_blocked()
    await by_request(inside)
    for _ in range(60):
        await peer.receive()
    await wait_all_tasks_blocked()
    mock_clock.jump(10_000)
    await wait_all_tasks_blocked()
    assert (await peer.call("agent.status")).result["state"] == "locked"
