"""Rewrapping: every data key comes below the new master key, whoever locks and writes meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from keyholt_agent.key_states import KeyState
from keyholt_agent.keys import budget
from keyholt_agent.store import (
    ReadMasterKeys,
    ReadWrappedKeys,
    RewrapKeys,
)
from keyholt_agent.store import store as store_module
from keyholt_agent.store.key_commands import AddUp
from keyholt_protocol.errors import StoreUnavailableError
from tests.agent.vault.rewrapped import PATHS, PATIENCE, check_values, rekeyed, wait_rewrapped
from tests.agent.vault.stored import change_behind, master_states, root_version, wrapped_by
from tests.support.agent_process import PASSPHRASE
from tests.support.inside import of_uid
from tests.support.intercepting import Gate, intercept

if TYPE_CHECKING:
    from tests.support.inside import Inside, Peer

RUN_OUT = 7


async def wait_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until the log has it."""
    with trio.fail_after(PATIENCE):
        while text not in caplog.text:
            await trio.lowlevel.checkpoint()


async def to_rewrap(peer: Peer) -> int | None:
    """What the status says of it."""
    found: int | None = (await peer.call("agent.status")).expect().result.get("to_rewrap")
    return found


async def test_all_data_keys_come_below_the_new_master_key(derived: Inside, peer: Peer) -> None:
    """Of old, deleted and destroyed versions too; then the old master key is destroyed."""
    services = derived.services
    (await peer.call("secret.put", b"newer", path="old")).expect()
    (await peer.call("secret.put", b"newest", path="old")).expect()
    (await peer.call("secret.put", b"d", path="deleted")).expect()
    (await peer.call("secret.delete", path="deleted")).expect()
    for number in range(4):  # a batch of nothing else among them
        (await peer.call("secret.put", b"d", path=f"destroyed/{number}")).expect()
        (await peer.call("secret.destroy", path=f"destroyed/{number}", version=1)).expect()
    (await peer.call("secret.put", b"last", path="last")).expect()
    everything = await wrapped_by(services, 1)
    assert len(everything) == 18
    assert (await peer.call("store.rekey")).expect().result["to_rewrap"] == 18
    await wait_rewrapped(services)
    assert await wrapped_by(services, 1) == []
    assert await wrapped_by(services, 2) == everything
    assert await master_states(services) == [KeyState.DESTROYED, KeyState.ACTIVE]
    await check_values(peer)
    assert (await peer.call("secret.get", path="old", version=1)).expect().payload == b"newer"
    (await peer.call("secret.undelete", path="deleted")).expect()
    assert (await peer.call("secret.get", path="deleted")).expect().payload == b"d"
    assert (await peer.call("secret.get", path="destroyed/0", version=1)).code == "not_found"


OF = "(SELECT v.id FROM secret_version v JOIN secret s ON s.id = v.secret_id WHERE path = '{}')"
DAMAGE = [
    f"UPDATE data_key SET wrapped_key = randomblob(length(wrapped_key)) WHERE id = {OF}",
    f"UPDATE data_key SET wrapped_key = x'01' WHERE id = {OF}",
    f"UPDATE secret_version SET metadata = x'80' WHERE id = {OF}",
]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damaged_data_keys_stay(
    derived: Inside,
    peer: Peer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    """They hold back no other, the log says how many they are, and they are not tried over and over."""
    services = derived.services
    damaged = [PATHS[0], PATHS[4], PATHS[5]]
    async with rekeyed(services, peer, monkeypatch, ReadWrappedKeys):
        # A store with such rows would not have been unlocked, nor got another root key.
        for path in damaged:
            await change_behind(services, damage.format(path))
    await wait_logged(caplog, "3 data keys cannot be rewrapped, for they are damaged")
    assert await wrapped_by(services, 1) == damaged
    assert await wrapped_by(services, 2) == [path for path in PATHS if path not in damaged]
    assert await master_states(services) == [KeyState.DECRYPT_ONLY, KeyState.ACTIVE]
    assert await to_rewrap(peer) is None
    looks = 0
    ask = services.store.ask

    async def counted(asked: ReadWrappedKeys) -> Any:
        nonlocal looks
        looks += 1
        return await ask(asked)

    intercept(monkeypatch, services.store, ReadWrappedKeys, counted)
    for _ in range(50):
        (await peer.call("secret.put", b"v", path="other")).expect()
    assert looks == 0
    services.cache.drop()
    for path in PATHS:
        expected = "integrity" if path in damaged else ""
        assert (await peer.call("secret.get", path=path, version=1)).code == expected
    assert (await peer.call("store.rekey")).code == "integrity"


async def test_a_master_key_that_is_used_up_within_a_batch(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was wrapped with it and not yet written is wrapped anew, and no version wraps more than it may."""
    services = derived.services
    monkeypatch.setattr(budget, "WRAPS_PER_VERSION", RUN_OUT)
    monkeypatch.setattr(budget, "WRAP_RESERVATION", 2)
    (await peer.call("store.rekey")).expect()
    await wait_rewrapped(services)
    first, *others = await services.store.ask(ReadMasterKeys())
    assert first.state is KeyState.DESTROYED
    assert len(others) > 1
    assert [row.state for row in others] == [KeyState.DECRYPT_ONLY] * (len(others) - 1) + [KeyState.ACTIVE]
    assert all(row.wraps_reserved <= RUN_OUT for row in others)
    found = [path for row in others for path in await wrapped_by(services, row.version)]
    assert sorted(found) == PATHS
    assert "not rewrapped yet" not in caplog.text
    await check_values(peer)


@pytest.mark.parametrize("written", [True, False])
async def test_a_lock_in_the_midst_and_an_unlock_that_goes_on(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    """What was rewrapped before is not rewrapped again."""
    services, ask = derived.services, derived.services.store.ask
    rewrapped: list[int] = []

    async def rewrap(asked: RewrapKeys) -> int:
        if len(rewrapped) == 2 and not written:
            services.vault.lock()
        rewrapped.append(await ask(asked))
        if len(rewrapped) == 2 and written:
            services.vault.lock()
        return rewrapped[-1]

    with monkeypatch.context() as patch:
        intercept(patch, services.store, RewrapKeys, rewrap)
        (await peer.call("store.rekey")).expect()
        with trio.fail_after(PATIENCE):
            while len(rewrapped) < 2 or services.rewrapping.left is not None:
                await trio.lowlevel.checkpoint()
        assert rewrapped == [3, 3]
        assert await wrapped_by(services, 1) == PATHS[6:]
        assert await to_rewrap(peer) is None
        assert (await peer.call("secret.get", path=PATHS[0])).code == "locked"
        written = True
        (await peer.call("agent.unlock", PASSPHRASE)).expect()
        await wait_rewrapped(services)
    assert rewrapped == [3, 3, 3, 1]
    await check_values(peer)


async def test_a_second_change_meanwhile(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It adds to what there is to do: in the end all is below the newest, and the others are destroyed."""
    services = derived.services
    async with rekeyed(services, peer, monkeypatch, RewrapKeys) as gate:
        for version in (3, 4):
            assert (await peer.call("store.rekey")).expect().result["root_version"] == version
            gate.go_on()
            await gate.wait()
    await wait_rewrapped(services)
    assert await master_states(services) == [KeyState.DESTROYED] * 3 + [KeyState.ACTIVE]
    assert await wrapped_by(services, 4) == PATHS
    assert await root_version(services) == 4
    await check_values(peer)


async def test_what_is_written_meanwhile_is_left_as_it_was_written(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version destroyed after its data key was read stays so; newer versions and tombstones stay."""
    services = derived.services
    async with rekeyed(services, peer, monkeypatch, RewrapKeys):
        (await peer.call("secret.destroy", path=PATHS[0], version=1)).expect()
        (await peer.call("secret.put", b"newer", path=PATHS[1])).expect()
        (await peer.call("secret.delete", path=PATHS[2])).expect()
    await wait_rewrapped(services)
    assert await master_states(services) == [KeyState.DESTROYED, KeyState.ACTIVE]
    rows = await change_behind(
        services, "SELECT id FROM data_key WHERE wrapped_key = zeroblob(length(wrapped_key))"
    )
    assert rows == [(1,)]
    assert (await peer.call("secret.get", path=PATHS[0])).code == "not_found"
    assert (await peer.call("secret.get", path=PATHS[1])).expect().payload == b"newer"
    assert (await peer.call("secret.get", path=PATHS[2])).code == "not_found"
    (await peer.call("secret.undelete", path=PATHS[2])).expect()
    await check_values(peer, PATHS[2:])


async def test_status_tells_how_far_it_is(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all of them down to none, and nothing at all while there is nothing to do."""
    assert await to_rewrap(peer) is None
    gate = Gate(derived.services.store, monkeypatch, ReadWrappedKeys)
    (await peer.call("store.rekey")).expect()
    found: list[int | None] = []
    for _ in range(5):  # batches of 3, 3, 3, 1 and none
        await gate.wait()
        found.append(await to_rewrap(peer))
        gate.go_on()
    assert found == [10, 7, 4, 1, 0]
    await wait_rewrapped(derived.services)
    with trio.fail_after(PATIENCE):
        while await to_rewrap(peer) is not None:
            await trio.lowlevel.checkpoint()


async def test_status_tells_how_far_the_check_of_an_unlock_is(
    derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows done, of about all that there are, while they are added up; before and after, nothing."""
    monkeypatch.setattr(store_module, "ROWS_AT_ONCE", 4)
    other = await derived.connect(principal=of_uid(7))
    (await peer.call("agent.lock")).expect()
    gate = Gate(derived.services.store, monkeypatch, AddUp)
    await peer.request("agent.unlock", PASSPHRASE)
    found: list[tuple[int, int]] = []
    for _ in range(7):  # three rows of the store, then ten paths and ten versions, four at a time
        await gate.wait()
        status = (await other.call("agent.status")).expect().result
        assert status["state"] == "locked"
        if "checked_rows" in status:
            found.append((status["checked_rows"], status["checking_rows"]))
        else:
            assert not found
            assert "checking_rows" not in status
        gate.go_on()
    (await peer.receive()).expect()
    assert [done for done, _ in found] == [3, 7, 11, 13, 17, 21]
    assert all(done <= rows <= 21 for done, rows in found)
    status = (await other.call("agent.status")).expect().result
    assert "checked_rows" not in status
    assert "checking_rows" not in status


async def test_what_was_read_before_opens_after(derived: Inside, peer: Peer) -> None:
    """The old master key is kept until the next lock, for whoever has a record that it wrapped."""
    services = derived.services
    cached = services.secrets.cached(PATHS[0], None)
    read = await services.secrets.read(PATHS[1], 1)
    (await peer.call("secret.get", path=PATHS[2])).expect()
    (await peer.call("store.rekey")).expect()
    await wait_rewrapped(services)
    for path, secret in ((PATHS[0], cached), (PATHS[1], read)):
        assert secret is not None
        opened = services.secrets.open(path, secret)
        assert not isinstance(opened, trio.abc.AsyncResource)
        with opened as value:  # type: ignore[union-attr]
            assert value.view == path.encode()
    await check_values(peer)


async def test_no_locked_memory_is_kept(derived: Inside, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After changes, rewrappings, failures and locks in the midst there is as much in use as before them."""
    services, ask = derived.services, derived.services.store.ask
    arena = services.arena
    (await peer.call("agent.lock")).expect()
    locked = arena.usage.used
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    unlocked = arena.usage.used
    for number in range(4):

        async def rewrap(asked: RewrapKeys, number: int = number) -> int:
            if number == 1:
                services.vault.lock()
            if number == 2:
                await ask(asked)
                services.vault.lock()
                raise StoreUnavailableError
            return await ask(asked)

        with monkeypatch.context() as patch:
            intercept(patch, services.store, RewrapKeys, rewrap)
            (await peer.call("store.rekey")).expect()
            with trio.fail_after(PATIENCE):
                while services.rewrapping.left is None:
                    await trio.lowlevel.checkpoint()
                while services.rewrapping.left is not None:
                    await trio.lowlevel.checkpoint()
        (await peer.call("agent.lock")).expect()
        assert arena.usage.used == locked
        (await peer.call("agent.unlock", PASSPHRASE)).expect()
        await wait_rewrapped(services)
    (await peer.call("agent.lock")).expect()
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    assert arena.usage.used == unlocked
