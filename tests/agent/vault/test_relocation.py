"""Moving, copying and purging in an unlocked agent: what was written opens at the other path alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from keyholt_agent.clocks import wall_time
from keyholt_agent.keys.secrets import SecretKeys
from keyholt_agent.store import AddMasterVersion, CopySecret, MasterRetiredError, MoveSecret, Resealed
from keyholt_agent.store.sqlite import paths
from keyholt_agent.vault import relocation
from keyholt_agent.vault.relocation import Relocation
from keyholt_agent.vault.state import LockReason
from tests.agent.vault.stored import change_behind
from tests.support.agent_process import PASSPHRASE
from tests.support.intercepting import Gate, intercept

if TYPE_CHECKING:
    from keyholt_agent.keys.secrets import OpenableSecret
    from tests.support.inside import Inside, Peer

LATER = wall_time() + 100_000
BOTH = pytest.mark.parametrize("op", ["secret.move", "secret.copy"])


async def fill(client: Peer, path: str = "a") -> None:
    """Three versions: one with labels, one that is destroyed, one that expires."""
    (await client.call("secret.put", b"one", path=path, labels={"env": "prod"})).expect()
    (await client.call("secret.put", b"two", path=path)).expect()
    (await client.call("secret.put", b"three", path=path, expires=LATER)).expect()
    (await client.call("secret.destroy", path=path, version=2)).expect()


async def told(client: Peer, path: str) -> dict[str, Any]:
    """The history of a path, and the value of each version that has one; the error's code for none."""
    history = await client.call("secret.history", path=path)
    if history.code:
        return {"code": history.code}
    values = {}
    for one in history.result["versions"]:
        got = await client.call("secret.get", path=path, version=one["version"])
        values[one["version"]] = got.code or (got.payload, got.result)
    return {"history": history.result, "values": values}


@BOTH
@pytest.mark.parametrize("cached", [True, False])
async def test_all_versions_open_at_the_other_path(inside: Inside, op: str, *, cached: bool) -> None:
    """With their numbers, times, labels and expiry; at the first path all is as before, or never was."""
    client = await inside.connect()
    await fill(client)
    before = await told(client, "a")
    if cached:
        (await client.call("secret.get", path="a")).expect()
    else:
        inside.services.cache.drop()
    assert (await client.call(op, path="a", to="b/c")).expect().result == {"version": 3}
    assert (await client.call("secret.get", path="a")).code == ("" if op == "secret.copy" else "not_found")
    assert await told(client, "b/c") == before
    assert await told(client, "a") == (before if op == "secret.copy" else {"code": "not_found"})
    inside.services.cache.drop()
    assert await told(client, "b/c") == before
    assert (await client.call("secret.put", b"four", path="b/c")).expect().result["version"] == 4
    got = (await client.call("secret.get", path="b/c")).expect()
    assert (got.payload, got.result["labels"], got.result["expires"]) == (b"four", {"env": "prod"}, LATER)
    assert inside.held == 0


@BOTH
async def test_a_tombstone_goes_along(inside: Inside, op: str) -> None:
    """A deleted secret is deleted at the other path too, and can be brought back there."""
    client = await inside.connect()
    await fill(client)
    before = await told(client, "a")
    (await client.call("secret.delete", path="a")).expect()
    (await client.call(op, path="a", to="b")).expect()
    assert (await client.call("secret.get", path="b")).code == "not_found"
    (await client.call("secret.undelete", path="b")).expect()
    assert await told(client, "b") == before


@BOTH
async def test_refusals_change_nothing(inside: Inside, op: str) -> None:
    """Nothing at the one path, something at the other, be it deleted; a path that is none."""
    client = await inside.connect()
    for path in ("a", "live", "deleted"):
        await fill(client, path)
    (await client.call("secret.delete", path="deleted")).expect()
    before = {path: await told(client, path) for path in ("a", "live", "deleted")}
    for to in ("a", "live", "deleted"):
        assert (await client.call(op, path="a", to=to)).code == "already_exists"
    assert (await client.call(op, path="none", to="b")).code == "not_found"
    assert (await client.call(op, path="a", to="/b")).details["field"] == "to"
    assert {path: await told(client, path) for path in before} == before


async def test_what_is_destroyed_at_one_path_is_there_at_the_other(inside: Inside) -> None:
    """A copy has data keys of its own; the cache knows which is which."""
    client = await inside.connect()
    await fill(client)
    (await client.call("secret.copy", path="a", to="b")).expect()
    (await client.call("secret.destroy", path="a", version=3)).expect()
    assert (await client.call("secret.get", path="a")).code == "not_found"
    assert (await client.call("secret.get", path="b")).expect().payload == b"three"


async def test_after_another_unlock_all_adds_up(derived: Inside) -> None:
    """What was moved, copied and purged is what the rows come to, and opens with the keys of another day."""
    client = await derived.connect()
    for path in "abc":
        await fill(client, path)
    before = await told(client, "a")
    (await client.call("secret.move", path="a", to="m")).expect()
    (await client.call("secret.copy", path="b", to="n")).expect()
    (await client.call("secret.purge", path="c")).expect()
    (await client.call("store.rekey")).expect()
    derived.services.vault.lock()
    (await client.call("agent.unlock", PASSPHRASE)).expect()
    for path in "mbn":
        assert (await told(client, path))["values"].keys() == before["values"].keys()
        assert (await client.call("secret.get", path=path)).expect().payload == b"three"
    for path in "ac":
        assert await told(client, path) == {"code": "not_found"}
    assert (await client.call("agent.status")).expect().result["store_secrets"] == 3


@BOTH
async def test_one_value_at_a_time_is_in_memory(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, op: str
) -> None:
    """A history of many times what the arena holds; and each version has its own turn of the loop."""
    client, arena = await inside.connect(), inside.services.arena
    value = os.urandom(1024 * 1024)
    for _ in range(12):
        (await client.call("secret.put", value, path="a")).expect()
    seen: list[int] = []
    opening = SecretKeys.open

    def counted(self: SecretKeys, secret: OpenableSecret) -> Any:
        seen.append(trio.lowlevel.current_statistics().run_sync_soon_queue_size + arena.usage.used)
        return opening(self, secret)

    monkeypatch.setattr(SecretKeys, "open", counted)
    rest = arena.usage.used
    (await client.call(op, path="a", to="b")).expect()
    assert len(seen) == 12
    assert max(seen) < rest + 64 * 1024  # none of those before was still there
    assert (await client.call("secret.get", path="b", version=5)).expect().payload == value


@BOTH
async def test_a_write_meanwhile_goes_along(inside: Inside, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    """It comes between the counting of the versions and the transaction: then that begins anew."""
    client, other, store = await inside.connect(), await inside.connect(), inside.services.store
    for value in (b"one", b"two", b"three"):
        (await client.call("secret.put", value, path="a")).expect()
    gate = Gate(store, monkeypatch, MoveSecret if op == "secret.move" else CopySecret)
    await client.request(op, path="a", to="b")
    await gate.wait()
    (await other.call("secret.put", b"four", path="a")).expect()
    gate.go_on()
    await gate.wait()
    gate.go_on()
    assert (await client.receive()).expect().result == {"version": 4}
    assert (await client.call("secret.get", path="b")).expect().payload == b"four"


async def test_writers_and_a_move_at_once_lose_nothing(inside: Inside) -> None:
    """Whatever was acknowledged is at one of the paths."""
    clients = [await inside.connect() for _ in range(5)]
    written: list[bytes] = []

    async def write(number: int) -> None:
        for turn in range(10):
            value = f"{number}/{turn}".encode()
            (await clients[number].call("secret.put", value, path="a")).expect()
            written.append(value)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(write, number)
        for turn in range(3):
            await clients[4].call("secret.move", path="a", to=f"b/{turn}")
    kept = [
        value[0]
        for path in ("a", "b/0", "b/1", "b/2")
        for value in (await told(clients[4], path)).get("values", {}).values()
    ]
    assert sorted(kept) == sorted(written)


@BOTH
async def test_a_lock_midway_leaves_all_as_it_was(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, op: str
) -> None:
    """After the first version was sealed anew: nothing is committed, and no value stays in memory."""
    client, services = await derived.connect(), derived.services
    await fill(client)
    before = await told(client, "a")
    resealing, begun = Relocation._reseal, 0

    async def locking(self: Relocation, *about: Any) -> Resealed:
        nonlocal begun
        begun += 1
        if begun == 2:
            services.vault.lock(LockReason.REQUEST)
        return await resealing(self, *about)

    monkeypatch.setattr(Relocation, "_reseal", locking)
    assert (await client.call(op, path="a", to="b")).code == "locked"
    monkeypatch.undo()
    (await client.call("agent.unlock", PASSPHRASE)).expect()
    assert begun == 2
    assert await told(client, "a") == before
    assert await told(client, "b") == {"code": "not_found"}


@BOTH
async def test_a_damaged_version_is_named(inside: Inside, op: str) -> None:
    """And nothing is changed; once it is destroyed, the rest goes along."""
    client = await inside.connect()
    await fill(client)
    await change_behind(inside.services, "UPDATE secret_version SET metadata = x'80' WHERE version = 1")
    refused = await client.call(op, path="a", to="b")
    assert (refused.code, "version 1 of 'a'" in refused.message) == ("integrity", True)
    assert await told(client, "b") == {"code": "not_found"}
    (await client.call("secret.destroy", path="a", version=1)).expect()
    (await client.call(op, path="a", to="b")).expect()


async def test_a_master_key_that_was_replaced_is_caught_up_with(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is ahead of the keyring, as after a failure: it is tried again with the one in force."""
    client, store = await inside.connect(), inside.services.store
    await fill(client)
    ask, refused = store.ask, 0

    async def retired(asked: MoveSecret) -> int:
        nonlocal refused
        refused += 1
        if refused == 1:
            raise MasterRetiredError
        return await ask(asked)

    intercept(monkeypatch, store, MoveSecret, retired)
    (await client.call("secret.move", path="a", to="b")).expect()
    assert refused == 2


async def test_more_versions_than_a_block_of_wraps(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permits are reserved as many as are needed, also where the master key is used up on the way."""
    client = await inside.connect()
    rotations: list[AddMasterVersion] = []
    ask = inside.services.store.ask

    async def rotate(asked: AddMasterVersion) -> None:
        rotations.append(asked)
        await ask(asked)

    intercept(monkeypatch, inside.services.store, AddMasterVersion, rotate)
    for number in range(30):
        (await client.call("secret.put", b"%d" % number, path="a")).expect()
    active = inside.services.vault.keyring.masters.named("default").active
    assert active is not None
    monkeypatch.setattr("keyholt_agent.keys.budget.WRAP_RESERVATION", 8)
    active.budget._left = 3
    active.budget._reserved = active.budget.limit - 8
    (await client.call("secret.copy", path="a", to="b")).expect()
    assert len(rotations) == 1
    assert (await client.call("secret.get", path="b", version=30)).expect().payload == b"29"


async def test_too_long_a_history_is_refused(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its limit, and before anything is sealed."""
    monkeypatch.setattr(relocation, "MOST_VERSIONS", 2)
    client = await inside.connect()
    await fill(client)
    refused = await client.call("secret.move", path="a", to="b")
    assert (refused.code, refused.details["limit"]) == ("too_large", 2)


@BOTH
async def test_too_long_values_are_refused(inside: Inside, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    """By their sum, with the limit, and nothing is changed; what is destroyed does not count."""
    monkeypatch.setattr(paths, "MOST_SEALED", 2_000)
    client = await inside.connect()
    for _ in range(3):
        (await client.call("secret.put", bytes(900), path="a")).expect()
    before = await told(client, "a")
    refused = await client.call(op, path="a", to="b")
    assert (refused.code, refused.details) == ("too_large", {"field": "path", "limit": 2_000})
    assert await told(client, "a") == before
    assert await told(client, "b") == {"code": "not_found"}
    (await client.call("secret.destroy", path="a", version=1)).expect()
    (await client.call(op, path="a", to="b")).expect()


async def test_a_purged_secret_is_not_served_from_the_cache(inside: Inside) -> None:
    """Nor told of; another that is written there is another. A condition that does not hold is a conflict."""
    client = await inside.connect()
    await fill(client)
    assert (await client.call("secret.get", path="a")).expect().payload == b"three"
    refused = await client.call("secret.purge", path="a", if_version=2)
    assert (refused.code, refused.details["current_version"]) == ("conflict", 3)
    assert (await client.call("secret.purge", path="a", if_version=3)).expect().result == {"version": 3}
    assert (await client.call("secret.get", path="a")).code == "not_found"
    assert (await client.call("secret.purge", path="a")).code == "not_found"
    assert (await client.call("secret.list")).expect().result["secrets"] == []
    assert (await client.call("secret.put", b"new", path="a")).expect().result["version"] == 1
    assert "labels" not in (await client.call("secret.get", path="a")).expect().result
