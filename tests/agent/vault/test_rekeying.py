"""A new root key: wholly in force or not at all, whoever writes, locks or fails meanwhile."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from keyholt_agent.key_states import KeyState
from keyholt_agent.store import (
    Cover,
    MasterRetiredError,
    PutSecret,
    ReadSlotTable,
    ReplaceRoot,
)
from keyholt_agent.store.sqlite import keys as stored_keys
from keyholt_agent.store.sqlite.database import Database
from keyholt_agent.vault import rekeying
from keyholt_agent.vault.state import VaultState
from keyholt_protocol.errors import StoreUnavailableError
from tests.agent.vault.stored import master_states, root_version, wrapped_by
from tests.support.agent_process import PASSPHRASE
from tests.support.inside import PEER, of_uid
from tests.support.intercepting import intercept
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.inside import Inside, Peer

OTHER = b"another"
PATIENCE = 20.0
"""Seconds for a thread that has to come."""


async def check_serves(inside: Inside, *passphrases: bytes) -> None:
    """Each passphrase opens the store, whose rows are what was sealed; it has the value, and takes others."""
    peer = await inside.connect()
    for passphrase in passphrases or (PASSPHRASE, OTHER):
        (await peer.call("agent.lock")).expect()
        (await peer.call("agent.unlock", passphrase)).expect()
        assert (await peer.call("secret.get", path="a")).expect().payload == b"value"
        (await peer.call("secret.put", passphrase, path="after")).expect()


@pytest.fixture
async def peer(derived: Inside) -> Peer:
    """A peer of an agent with two keyslots and one secret."""
    peer = await derived.connect()
    payload = two_passphrases(PASSPHRASE, OTHER)
    (await peer.call("slot.add", payload, name="other")).expect()
    (await peer.call("secret.put", b"value", path="a")).expect()
    return peer


@pytest.fixture
async def locked(derived: Inside, peer: Peer) -> int:
    """Bytes of locked memory that are in use while there are no keys."""
    (await peer.call("agent.lock")).expect()
    used = derived.services.arena.usage.used
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    return used


# Writers meanwhile.


async def test_a_write_that_comes_too_late_is_wrapped_anew(
    derived: Inside, peer: Peer, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed under the old version, and there after the change: the store refuses it, and it is done over."""
    services, ask = derived.services, derived.services.store.ask
    writer = await derived.connect()
    refused = trio.Event()

    async def put(asked: PutSecret) -> Any:
        try:
            return await ask(asked)
        except MasterRetiredError:
            refused.set()
            raise

    async def replaced(asked: ReplaceRoot) -> None:
        await ask(asked)
        # Committed, and this agent's keyring has not heard of it.
        await writer.request("secret.put", b"late", path="late")
        with trio.fail_after(PATIENCE):
            await refused.wait()

    intercept(monkeypatch, services.store, PutSecret, put)
    intercept(monkeypatch, services.store, ReplaceRoot, replaced)
    (await peer.call("store.rekey")).expect()
    (await writer.receive()).expect()
    monkeypatch.undo()
    assert await wrapped_by(services, 1) == ["a"]
    assert await wrapped_by(services, 2) == ["late"]
    await check_serves(derived)


async def test_writers_do_not_notice(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """However often, and however small the portions are in which rows are added up meanwhile."""
    monkeypatch.setattr(rekeying, "ROWS_AT_ONCE", 6)  # more than four writers add meanwhile
    nursery.start_soon(derived.services.rewrapping.run)
    writers = [await derived.connect(principal=of_uid(number)) for number in range(4)]
    done = False
    rounds = 0

    async def write(number: int) -> None:
        turn = 0
        while not done:
            (await writers[number].call("secret.put", b"%d" % turn, path=f"{number}/{turn % 5}")).expect()
            got = await writers[number].call("secret.get", path=f"{number}/{turn % 5}")
            assert got.expect().payload == b"%d" % turn
            turn += 1

    async with trio.open_nursery() as writing:
        for number in range(len(writers)):
            writing.start_soon(write, number)
        for rounds in range(1, 6):
            assert (await peer.call("store.rekey")).expect().result["root_version"] == rounds + 1
        done = True
    assert await root_version(derived.services) == rounds + 1
    await check_serves(derived)


# Locks.


async def test_lock_before_the_transaction(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While rows are added up: nothing has changed, and whoever asked is told why."""
    services, ask = derived.services, derived.services.store.ask
    before = await ask(ReadSlotTable())

    async def covered(asked: Cover) -> int | None:
        rows = await ask(asked)
        services.vault.lock()
        return rows

    intercept(monkeypatch, services.store, Cover, covered)
    assert (await peer.call("store.rekey")).code == "locked"
    monkeypatch.undo()
    assert await ask(ReadSlotTable()) == before
    assert await root_version(services) == 1
    await check_serves(derived)


@pytest.mark.parametrize("stage", ["before", "after"])
async def test_lock_at_the_transaction(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch, locked: int, stage: str
) -> None:
    """Just before, it is not done; just after, it is, and the next unlock is with the new root key."""
    services, ask = derived.services, derived.services.store.ask

    async def locking(asked: ReplaceRoot) -> None:
        if stage == "before":
            services.vault.lock()
        await ask(asked)
        services.vault.lock()

    intercept(monkeypatch, services.store, ReplaceRoot, locking)
    assert (await peer.call("store.rekey")).code == ("locked" if stage == "before" else "")
    monkeypatch.undo()
    assert services.vault.state is VaultState.LOCKED
    assert services.arena.usage.used == locked
    assert await root_version(services) == (1 if stage == "before" else 2)
    await check_serves(derived)


class Halt:
    """Where the store's thread stands still within a transaction."""

    def __init__(self) -> None:
        self.standing, self.go_on = threading.Event(), threading.Event()

    async def wait_standing(self) -> None:
        assert await trio.to_thread.run_sync(self.standing.wait, PATIENCE)


@pytest.fixture
def halt(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Halt]:
    """Before the first keyslot of a new root key is written."""
    halt, insert = Halt(), stored_keys.insert_slots

    def insert_later(*arguments: Any, **options: Any) -> None:
        halt.standing.set()
        assert halt.go_on.wait(PATIENCE)
        insert(*arguments, **options)

    monkeypatch.setattr(stored_keys, "insert_slots", insert_later)
    yield halt
    halt.go_on.set()


async def test_lock_within_the_transaction(derived: Inside, peer: Peer, halt: Halt, locked: int) -> None:
    """It is finished with the keys that were given up, which are zero once it is."""
    services = derived.services
    locker = await derived.connect()
    await peer.request("store.rekey")
    await halt.wait_standing()
    await locker.request("agent.lock")
    with trio.fail_after(PATIENCE):
        while services.vault.state is not VaultState.LOCKED:
            await trio.lowlevel.checkpoint()
    halt.go_on.set()
    (await locker.receive()).expect()
    (await peer.receive()).expect()
    assert services.arena.usage.used == locked
    assert await root_version(services) == 2
    await check_serves(derived)


async def test_whoever_asked_is_gone(derived: Inside, peer: Peer, halt: Halt) -> None:
    """The change is made all the same, and the keyring works with it."""
    services = derived.services
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(services.keyslots.rekey, PEER)
            await halt.wait_standing()
            scope.cancel()
            halt.go_on.set()
    (await peer.call("secret.put", b"new", path="new")).expect()
    assert await root_version(services) == 2
    assert await wrapped_by(services, 2) == ["new"]
    await check_serves(derived)


# Failures of the store.


async def fail(*_: object) -> Any:
    """A store that cannot be used."""
    await trio.lowlevel.checkpoint()
    raise StoreUnavailableError("the disk is on fire")


@pytest.mark.parametrize("command", [Cover, ReplaceRoot])
async def test_failure_before_anything_is_written(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch, command: type[Any]
) -> None:
    """The agent works on with the keys that it had; the next attempt succeeds."""
    services = derived.services
    used = services.arena.usage.used
    intercept(monkeypatch, services.store, command, fail)
    assert (await peer.call("store.rekey")).code == "store_unavailable"
    monkeypatch.undo()
    assert services.vault.state is VaultState.UNLOCKED
    assert services.arena.usage.used == used
    (await peer.call("secret.put", b"v", path="b")).expect()
    assert await root_version(services) == 1
    assert (await peer.call("store.rekey")).expect().result == {"root_version": 2, "to_rewrap": 2}
    await check_serves(derived)


@pytest.mark.parametrize("committed", [True, False])
async def test_failure_that_does_not_say_whether_it_was_written(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch, locked: int, *, committed: bool
) -> None:
    """The agent locks itself: an unlock finds out which root key it is."""
    services, ask = derived.services, derived.services.store.ask

    async def lost(asked: ReplaceRoot) -> None:
        if committed:
            await ask(asked)
        else:
            intercept(monkeypatch, services.store, ReadSlotTable, fail)
        raise StoreUnavailableError

    intercept(monkeypatch, services.store, ReplaceRoot, lost)
    assert (await peer.call("store.rekey")).code == "store_unavailable"
    monkeypatch.undo()
    assert services.vault.state is VaultState.LOCKED
    assert services.arena.usage.used == locked
    assert await root_version(services) == (2 if committed else 1)
    await check_serves(derived)


async def test_no_room_to_erase_the_old_keys(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done, and told that it is; the agent works on with the new root key."""
    services = derived.services

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "checkpoint", full)
        refused = await peer.call("slot.remove", PASSPHRASE, name="other")
        assert refused.code == "store_unavailable"
        assert "it is done" in refused.message
        (await peer.call("secret.put", b"v", path="b")).expect()
    assert await root_version(services) == 2
    assert await wrapped_by(services, 2) == ["b"]
    assert [slot["name"] for slot in (await peer.call("slot.list")).expect().result["slots"]] == [
        "passphrase"
    ]
    await check_serves(derived, PASSPHRASE)


async def test_a_fault_while_rows_are_added_up(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was added up beside a fault is worth nothing: it is refused, and begun anew the next time."""
    services, ask = derived.services, derived.services.store.ask
    backend = services.store._backend

    async def replaced(asked: ReplaceRoot) -> None:
        backend._sealing.failed()  # type: ignore[attr-defined]
        await ask(asked)

    with monkeypatch.context() as patch:
        intercept(patch, services.store, ReplaceRoot, replaced)
        assert (await peer.call("store.rekey")).code == "contention"
    assert services.vault.state is VaultState.UNLOCKED
    assert await root_version(services) == 1
    (await peer.call("store.rekey")).expect()
    await check_serves(derived)


# One after another.


async def test_nothing_is_kept_of_keys_that_were_replaced(derived: Inside, peer: Peer, locked: int) -> None:
    """Locked memory holds as much after many changes as before, but for master keys; after a lock, none."""
    arena = derived.services.arena
    before = arena.usage.blocks
    for count in range(1, 6):
        (await peer.call("store.rekey")).expect()
        assert arena.usage.blocks == before + count
    (await peer.call("agent.lock")).expect()
    assert arena.usage.used == locked
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    assert arena.usage.blocks == before + 5  # nothing was rewrapped: all versions are there
    assert await master_states(derived.services) == [KeyState.DECRYPT_ONLY] * 5 + [KeyState.ACTIVE]


@pytest.mark.parametrize("lock", [False, True])
async def test_what_was_read_before_opens_after(derived: Inside, peer: Peer, *, lock: bool) -> None:
    """A secret that is cached, wrapped as it was, and one that is read anew."""
    assert (await peer.call("secret.get", path="a")).expect().payload == b"value"
    (await peer.call("store.rekey")).expect()
    if lock:
        (await peer.call("agent.lock")).expect()
        (await peer.call("agent.unlock", OTHER)).expect()
    assert (await peer.call("secret.get", path="a")).expect().payload == b"value"
    assert (await peer.call("secret.get", path="a", version=1)).expect().payload == b"value"
