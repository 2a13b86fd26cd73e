"""Unlocking and locking an agent: slow where a guess is wrong, and never in the way of the others."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from keyholt_agent.config import Settings, UnlockSettings
from keyholt_agent.keys import kdf
from keyholt_agent.store import ReadSlotTable
from keyholt_agent.vault import passphrases
from keyholt_protocol.limits import MAX_REQUEST_HEADER
from tests.support.agent_process import PASSPHRASE
from tests.support.inside import of_uid
from tests.support.intercepting import intercept
from tests.support.wire import two_passphrases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyholt_agent.services import Services
    from keyholt_agent.store import SlotTable
    from tests.support.inside import Inside, Peer


class Gate:
    """Holds every key derivation until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = 0

    def derive(self, *arguments: Any) -> None:
        self.begun += 1
        assert self.open.wait(20)
        DERIVE(*arguments)

    async def wait_begun(self, count: int) -> None:
        deadline = time.monotonic() + 30  # the thread's time, whatever the test's clock says
        while self.begun < count:
            assert time.monotonic() < deadline, "no derivation has begun"
            await trio.lowlevel.checkpoint()


DERIVE = kdf.derive


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate in front of the derivation, once ``shut``; opened in the end."""
    gate = Gate()
    gate.open.set()
    monkeypatch.setattr(kdf, "derive", gate.derive)
    yield gate
    gate.open.set()


async def lock(peer: Peer) -> None:
    """Lock the agent."""
    (await peer.call("agent.lock")).expect()


async def test_wrong_passphrases_slow_down_their_user_alone(derived: Inside, mock_clock: MockClock) -> None:
    """Three are free, then each doubles the wait, which is named; nobody else is slowed."""
    peer = await derived.connect()
    other = await derived.connect(principal=of_uid(5))
    await lock(peer)
    for _ in range(3):
        assert (await peer.call("agent.unlock", b"wrong")).code == "unlock_failed"
    for wait in (1, 2):
        refused = await peer.call("agent.unlock", PASSPHRASE)
        assert (refused.code, refused.details) == ("rate_limited", {"retry_after": wait})
        assert (await other.call("agent.status")).code == ""
        mock_clock.jump(wait)
        assert (await peer.call("agent.unlock", b"wrong")).code == "unlock_failed"
    (await other.call("agent.unlock", PASSPHRASE)).expect()
    assert (await peer.call("slot.remove", PASSPHRASE, name="passphrase")).code == "conflict"
    assert (await peer.call("agent.unlock", PASSPHRASE)).code == "rate_limited"
    mock_clock.jump(60)
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    assert (await peer.call("agent.unlock", b"wrong")).code == "unlock_failed"
    (await peer.call("agent.unlock", PASSPHRASE)).expect()
    assert derived.held == derived.services.arena.usage.used - derived.buffer_used


def guess(op: str, passphrase: bytes) -> tuple[str, bytes, dict[str, object]]:
    """How a passphrase is tried at keyslot ``second``, as the operation takes it."""
    match op:
        case "unlock":
            return "agent.unlock", passphrase, {"slot": "second"}
        case "unlock anywhere":
            return "agent.unlock", passphrase, {}
        case "change":
            return "slot.add", two_passphrases(passphrase, b"new"), {"name": "second", "replace": True}
        case "add":
            return "slot.add", two_passphrases(passphrase, b"new"), {"name": "third"}
        case _:
            return "slot.remove", passphrase, {"name": "passphrase"}


@pytest.mark.parametrize("op", ["unlock", "unlock anywhere", "change", "add", "remove"])
async def test_own_passphrase_gives_no_guesses_at_another(
    derived: Inside, mock_clock: MockClock, op: str
) -> None:
    """Shown between the guesses, by whichever operation they are made, it takes back none of them."""
    peer = await derived.connect()
    (await peer.call("slot.add", two_passphrases(PASSPHRASE, b"second"), name="second")).expect()
    asked, payload, args = guess(op, b"wrong")
    for _ in range(3):
        assert (await peer.call(asked, payload, **args)).code == "unlock_failed"
        (await peer.call("agent.unlock", PASSPHRASE, slot="passphrase")).expect()
    assert (await peer.call(asked, payload, **args)).code == "rate_limited"
    (await peer.call("agent.unlock", PASSPHRASE, slot="passphrase")).expect()
    assert (await peer.call("agent.unlock", b"second", slot="second")).code == "rate_limited"
    mock_clock.jump(1)
    (await peer.call("agent.unlock", b"second", slot="second")).expect()
    assert (await peer.call(asked, payload, **args)).code == "unlock_failed"


async def test_a_guess_that_opens_another_keyslot_is_a_guess(derived: Inside, mock_clock: MockClock) -> None:
    """Tried at all keyslots, it is charged at those before the one that opens; a second time it is not."""
    peer = await derived.connect()
    (await peer.call("slot.add", two_passphrases(PASSPHRASE, b"second"), name="second")).expect()
    for number in range(3):
        for _ in range(3):
            (await peer.call("agent.unlock", b"second")).expect()
        change = two_passphrases(b"second", b"guess %d" % number)
        (await peer.call("slot.add", change, name="second", replace=True)).expect()
        (await peer.call("agent.unlock", b"guess %d" % number)).expect()
        change = two_passphrases(b"guess %d" % number, b"second")
        (await peer.call("slot.add", change, name="second", replace=True)).expect()
    assert (await peer.call("agent.unlock", PASSPHRASE, slot="passphrase")).code == "rate_limited"
    (await peer.call("agent.unlock", b"second")).expect()  # which is not kept from its own keyslot


async def test_a_passphrase_that_may_be_right_is_not_called_wrong(
    derived: Inside, mock_clock: MockClock
) -> None:
    """While one keyslot must wait, who is refused by the others is told to wait, for it may be that one's."""
    peer = await derived.connect()
    (await peer.call("slot.add", two_passphrases(PASSPHRASE, b"second"), name="second")).expect()
    for _ in range(3):
        assert (await peer.call("agent.unlock", b"wrong", slot="second")).code == "unlock_failed"
    assert (await peer.call("agent.unlock", b"second")).code == "rate_limited"
    (await peer.call("agent.unlock", PASSPHRASE)).expect()


async def test_others_are_served_during_a_derivation(derived: Inside, gate: Gate) -> None:
    """The agent's thread does not derive: while one peer waits for it, another fetches and writes."""
    peer, other = await derived.connect(), await derived.connect()
    gate.open.clear()
    before = gate.begun
    number = await peer.request("agent.unlock", PASSPHRASE)
    await gate.wait_begun(before + 1)
    for _ in range(3):
        (await other.call("secret.put", b"v", path="meanwhile")).expect()
        assert (await other.call("secret.get", path="meanwhile")).payload == b"v"
    gate.open.set()
    assert (await peer.receive()).expect().id == number


@pytest.mark.parametrize("op", ["agent.unlock", "slot.add", "slot.remove"])
async def test_lock_during_a_derivation(derived: Inside, gate: Gate, op: str) -> None:
    """Who locks means it, also for an unlock or a change of keyslots under way: the agent stays locked."""
    peer, other = await derived.connect(), await derived.connect()
    (await peer.call("slot.add", two_passphrases(PASSPHRASE, b"second"), name="second")).expect()
    if op == "agent.unlock":
        await lock(other)
    used = derived.services.arena.usage.used
    gate.open.clear()
    args: dict[str, object] = {}
    payload = PASSPHRASE
    if op == "slot.add":
        args, payload = {"name": "third"}, two_passphrases(PASSPHRASE, b"third")
    elif op == "slot.remove":
        args = {"name": "second"}
    before = gate.begun
    await peer.request(op, payload, **args)
    await gate.wait_begun(before + 1)
    await lock(other)
    gate.open.set()
    assert (await peer.receive()).code == ("contention" if op == "agent.unlock" else "locked")
    assert (await other.call("agent.status")).result["state"] == "locked"
    assert derived.services.arena.usage.used <= used
    (await other.call("agent.unlock", PASSPHRASE)).expect()
    assert [slot["name"] for slot in (await other.call("slot.list")).result["slots"]] == [
        "passphrase",
        "second",
    ]


async def test_too_many_derivations_wait(derived: Inside, gate: Gate) -> None:
    """A few wait for their turn, more are told to come back; memory is not filled with the waiting."""
    peers = [await derived.connect() for _ in range(10)]
    gate.open.clear()
    before = gate.begun
    for peer in peers:
        await peer.request("agent.unlock", PASSPHRASE)
    await gate.wait_begun(before + 1)
    await wait_all_tasks_blocked()
    gate.open.set()
    codes = [(await peer.receive()).code for peer in peers]
    assert sorted(codes) == [""] * 5 + ["busy"] * 5
    assert gate.begun - before == 5


async def test_one_user_s_attempts_keep_no_other_out(derived: Inside, gate: Gate) -> None:
    """However many of one user's wait, another's unlock is taken, and its turn comes."""
    crowd = [await derived.connect(principal=of_uid(6)) for _ in range(9)]
    owner = await derived.connect()
    gate.open.clear()
    before = gate.begun
    for peer in crowd:
        await peer.request("agent.unlock", b"wrong")
    await gate.wait_begun(before + 1)
    await wait_all_tasks_blocked()
    await owner.request("agent.unlock", PASSPHRASE)
    await wait_all_tasks_blocked()
    gate.open.set()
    (await owner.receive()).expect()
    codes = [(await peer.receive()).code for peer in crowd]
    assert codes.count("unlock_failed") == 3
    assert codes.count("rate_limited") == 2
    assert codes.count("busy") == 4


async def test_edited_table_of_many_slots(
    derived: Inside, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    """No more slots are tried than a store can have; thousands would keep the agent at it for days."""
    services, ask = derived.services, derived.services.store.ask

    async def tampered(asked: ReadSlotTable) -> SlotTable:
        table = await ask(asked)
        return dataclasses.replace(table, slots=table.slots * 5)

    monkeypatch.setattr(passphrases, "MAX_SLOTS", 2)
    intercept(monkeypatch, services.store, ReadSlotTable, tampered)
    peer = await derived.connect()
    before = gate.begun
    assert (await peer.call("agent.unlock", b"wrong")).code == "unlock_failed"
    assert gate.begun - before == 2


async def test_too_many_creations_wait(inside: Inside, services: Services, gate: Gate) -> None:
    """The same holds for whoever creates the store; the answer is one that the operation lists."""
    peers = [await inside.connect() for _ in range(8)]
    another = of_uid(12345)
    async with services.passphrases.turn(another):  # whose waiting takes nobody else's place
        for peer in peers:
            await peer.request("store.init", PASSPHRASE)
        await wait_all_tasks_blocked()
    codes = [(await peer.receive()).code for peer in peers]
    assert sorted(codes) == ["already_exists"] * 5 + ["busy"] * 3


async def test_peer_that_leaves_during_a_derivation(derived: Inside, gate: Gate) -> None:
    """The derivation ends with its memory still there, then all of it is given back."""
    peer, other = await derived.connect(), await derived.connect()
    await lock(other)
    gate.open.clear()
    before = gate.begun
    await peer.request("agent.unlock", b"a passphrase of someone who does not wait")
    await gate.wait_begun(before + 1)
    await peer.stream.aclose()
    (await other.call("agent.status")).expect()
    gate.open.set()
    (await other.call("agent.unlock", PASSPHRASE)).expect()
    await lock(other)
    with trio.fail_after(10):
        while derived.held:
            await trio.lowlevel.checkpoint()


class TestAutomaticLocking:
    """An agent with time limits, and a clock of the test's own in the place of the machine's."""

    @pytest.fixture
    def settings(self) -> Settings:
        """Idle for a minute, or an hour in any case."""
        return Settings(unlock=UnlockSettings(kdf_target=0, idle_timeout=60, max_lifetime=3600))

    @pytest.fixture
    def now(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time of the clock that counts sleep too."""
        now = [1000.0]
        monkeypatch.setattr(services.autolock, "_clock", lambda: now[0])
        return now

    async def test_idle(self, now: list[float], inside: Inside) -> None:
        """Use puts it off, questions about the state do not; past it no key is used any more."""
        peer = await inside.connect()
        (await peer.call("secret.put", b"v", path="a")).expect()
        for _ in range(10):
            now[0] += 50
            assert (await peer.call("secret.get", path="a")).payload == b"v"
        now[0] += 59
        assert (await peer.call("agent.status")).result["state"] == "unlocked"
        now[0] += 1
        assert (await peer.call("secret.get", path="a")).code == "locked"
        assert (await peer.call("agent.status")).result["state"] == "locked"
        assert inside.services.arena.usage.used == MAX_REQUEST_HEADER

    async def test_lifetime(self, now: list[float], inside: Inside) -> None:
        """However much it is used, it ends."""
        peer = await inside.connect()
        (await peer.call("secret.put", b"v", path="a")).expect()
        for _ in range(71):
            now[0] += 50
            assert (await peer.call("secret.get", path="a")).code == ""
        now[0] += 50
        assert (await peer.call("secret.get", path="a")).code == "locked"

    async def test_without_a_request(
        self, now: list[float], inside: Inside, nursery: trio.Nursery, mock_clock: MockClock
    ) -> None:
        """A machine that slept wakes up locked within seconds, though trio's own clock stood still."""
        nursery.start_soon(inside.services.vault.lock_in_time)
        await wait_all_tasks_blocked()
        assert inside.services.vault.state.value == "unlocked"
        now[0] += 10_000
        mock_clock.jump(6)
        await wait_all_tasks_blocked()
        assert inside.services.vault.state.value == "locked"
        assert inside.services.arena.usage.used == MAX_REQUEST_HEADER
