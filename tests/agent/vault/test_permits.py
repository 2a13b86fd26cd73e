"""Permits to wrap: reserved before it is used, never overdrawn, and a new master key when it is spent."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.key_states import KeyState
from keyholt_agent.keys import budget
from keyholt_agent.keys.budget import WRAP_RESERVATION, WRAPS_PER_VERSION
from keyholt_agent.keys.master_key import RotateMaster
from keyholt_agent.keys.master_keys import MasterKeys
from keyholt_agent.store import AddMasterVersion, CountWraps, ReadMasterKeys
from keyholt_agent.vault.permits import SECRETS_MASTER
from keyholt_protocol.errors import LockedError, StoreUnavailableError
from tests.support.agent_process import PASSPHRASE
from tests.support.intercepting import intercept

if TYPE_CHECKING:
    from keyholt_agent.services import Services
    from keyholt_agent.store import MasterKeyRow
    from tests.support.inside import Inside


async def masters(services: Services) -> list[MasterKeyRow]:
    """Every version of the master key as the store has it, the oldest first."""
    return sorted(await services.store.ask(ReadMasterKeys()), key=lambda row: row.version)


async def spend(services: Services, leave: int) -> None:
    """Have the store count wraps of the first master key until only ``leave`` are left."""
    (master,) = await masters(services)
    count = WRAPS_PER_VERSION - leave - master.wraps_reserved
    await services.store.ask(
        CountWraps(key_id=master.key_id, version=1, count=count, limit=WRAPS_PER_VERSION)
    )


async def test_reserved_before_used(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store counts a whole block before the first wrap of it, and no more until the block is used up."""
    monkeypatch.setattr(budget, "WRAP_RESERVATION", 16)
    client = await inside.connect()
    for number in range(40):
        (master,) = await masters(inside.services)
        assert master.wraps_reserved == -(-number // 16) * 16
        (await client.call("secret.put", b"v", path="a")).expect()


async def test_new_master_key_at_the_limit(derived: Inside) -> None:
    """With the real limit: what is left is used, then there is a new version; both open what they sealed."""
    client = await derived.connect()
    await spend(derived.services, leave=3)
    (await client.call("agent.lock")).expect()
    (await client.call("agent.unlock", PASSPHRASE)).expect()
    for number in range(6):
        (await client.call("secret.put", b"%d" % number, path=f"p/{number}")).expect()
    first, second = await masters(derived.services)
    assert (first.state, first.wraps_reserved) == (KeyState.DECRYPT_ONLY, WRAPS_PER_VERSION)
    assert (second.state, second.wraps_reserved) == (KeyState.ACTIVE, WRAP_RESERVATION)
    (await client.call("agent.lock")).expect()
    (await client.call("agent.unlock", PASSPHRASE)).expect()
    for number in range(6):
        assert (await client.call("secret.get", path=f"p/{number}")).expect().payload == b"%d" % number


async def test_many_writers_over_many_limits(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that meet at the limit: no write fails, no version wraps more often than it may."""
    monkeypatch.setattr(budget, "WRAPS_PER_VERSION", 7)
    active = inside.services.vault.keyring.masters.named(SECRETS_MASTER).active
    assert active is not None
    active.budget.limit = 7
    monkeypatch.setattr(budget, "WRAP_RESERVATION", 2)
    clients = [await inside.connect() for _ in range(6)]

    async def write(number: int) -> None:
        for turn in range(12):
            (await clients[number].call("secret.put", b"v", path=f"{number}/{turn}")).expect()

    async with trio.open_nursery() as nursery:
        for number in range(len(clients)):
            nursery.start_soon(write, number)
    rows = await masters(inside.services)
    assert [row.state for row in rows] == [KeyState.DECRYPT_ONLY] * (len(rows) - 1) + [KeyState.ACTIVE]
    assert all(row.wraps_reserved <= 7 for row in rows)
    assert len(rows) >= 72 // 7
    for number in range(len(clients)):
        assert (await clients[0].call("secret.get", path=f"{number}/11")).payload == b"v"


async def test_rotation_whose_answer_was_lost(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has a new version that the keyring never heard of: the next write finds out, and goes on."""
    client = await inside.connect()
    (await client.call("secret.put", b"v", path="a")).expect()
    (master,) = await masters(inside.services)
    services = inside.services
    need = RotateMaster(name=master.name, key_id=master.key_id, version=1, custody=master.custody)
    with monkeypatch.context() as lost:
        lost.setattr(MasterKeys, "put_in_force", lambda *_: None)
        await services.permits._rotate(need)
    active = services.vault.keyring.masters.named(master.name).active
    assert active is not None
    active.budget._left = 0
    for number in range(3):
        (await client.call("secret.put", b"v", path=f"after/{number}")).expect()
    assert [row.state for row in await masters(services)] == [KeyState.DECRYPT_ONLY, KeyState.ACTIVE]


async def test_reservation_whose_answer_was_lost(inside: Inside) -> None:
    """The store has counted more than the keyring knows of, up to the limit: the next write rotates."""
    client = await inside.connect()
    await spend(inside.services, leave=0)
    (await client.call("secret.put", b"v", path="a")).expect()
    first, second = await masters(inside.services)
    assert (first.wraps_reserved, first.state) == (WRAPS_PER_VERSION, KeyState.DECRYPT_ONLY)
    assert second.state is KeyState.ACTIVE


@pytest.mark.parametrize("leave", [0, 5])
async def test_peer_that_leaves_while_wraps_are_reserved(derived: Inside, leave: int) -> None:
    """Whoever began a reservation or a rotation may go: the next writer finds all in order."""
    client = await derived.connect()
    await spend(derived.services, leave)
    for number in range(5):
        (await client.call("agent.lock")).expect()
        (await client.call("agent.unlock", PASSPHRASE)).expect()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(derived.services.permits.permit, SECRETS_MASTER)
                for _ in range(number):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        (await client.call("secret.put", b"v", path=f"left/{number}")).expect()
    rows = await masters(derived.services)
    assert rows[-1].state is KeyState.ACTIVE
    assert all(row.wraps_reserved <= WRAPS_PER_VERSION for row in rows)


async def test_no_wrap_without_a_committed_reservation(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reservation that cannot be written gives no wrap: the write fails, by name, and nothing is stored."""

    async def failing(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailableError

    client = await inside.connect()
    intercept(monkeypatch, inside.services.store, CountWraps, failing)
    assert (await client.call("secret.put", b"v", path="a")).code == "store_unavailable"
    assert (await client.call("secret.get", path="a")).code == "not_found"


async def test_locked_meanwhile(inside: Inside) -> None:
    """Who locks means it for writes that wait for wraps as well."""
    inside.services.vault.lock()
    with pytest.raises(LockedError):
        await inside.services.permits.permit(SECRETS_MASTER)


async def test_store_that_contradicts_itself(inside: Inside) -> None:
    """A next version that is there already, and not in force: an error for whoever writes, and no loop."""
    client = await inside.connect()
    services = inside.services
    await spend(services, leave=0)
    (master,) = await masters(services)
    taken = dataclasses.replace(master, version=2, state=KeyState.DESTROYED)
    await services.store.ask(AddMasterVersion(row=taken))
    blocks = services.arena.usage.blocks
    with trio.fail_after(20):
        for _ in range(3):
            assert (await client.call("secret.put", b"v", path="a")).code == "integrity"
    assert services.arena.usage.blocks == blocks
    assert (await client.call("secret.get", path="a")).code == "not_found"


async def test_peers_that_leave_waste_no_wraps(inside: Inside) -> None:
    """A reservation that was begun is taken note of, whoever began it: the next writer needs no other."""
    services = inside.services
    for _ in range(20):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(services.permits.permit, SECRETS_MASTER)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                scope.cancel()
    (master,) = await masters(services)
    assert master.wraps_reserved == WRAP_RESERVATION
