"""The vault: keys come and go with its state, and late ones find the door closed."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.keys.kdf import FLOOR
from keyholt_agent.keys.keyring import Keyring
from keyholt_agent.keys.keyslots import passphrase_slot
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import Identity
from keyholt_agent.vault.autolock import AutoLock
from keyholt_agent.vault.state import LockReason, VaultEvent, VaultState
from keyholt_agent.vault.vault import Vault
from keyholt_protocol.errors import AlreadyExistsError, ContentionError, LockedError, UninitialisedError
from keyholt_protocol.operations import Needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyholt_agent.memory import Arena

SLOT = passphrase_slot("main", 1, FLOOR, KERNEL)


class Machine:
    """A vault of the test's own, and what becomes of it."""

    def __init__(self, arena: Arena, *, initialised: bool) -> None:
        self.arena = arena
        self.now = 0.0
        self.served: list[Keyring | None] = []
        autolock = AutoLock(60.0, 3600.0, lambda: self.now)
        self.vault = Vault(initialised=initialised, autolock=autolock, serve=self.serve)

    def serve(self, keyring: Keyring | None) -> None:
        if keyring is None:
            assert self.arena.usage.used == 0  # the keys are gone before what was read with them
        self.served.append(keyring)

    def keyring(self) -> Keyring:
        with self.arena.allocate(32) as secret, Identity(self.arena, secret) as identity:
            return Keyring.create(self.arena, SLOT, identity, "default", KERNEL)[0]

    def open(self, event: VaultEvent) -> Keyring:
        keyring = self.keyring()
        self.vault.open(keyring, event, locks=self.vault.locks)
        return keyring


@pytest.fixture
def machine(arena: Arena) -> Iterator[Machine]:
    """A locked vault of a store that is there."""
    machine = Machine(arena, initialised=True)
    yield machine
    machine.vault.lock()


def test_locked_vault_has_no_keys(machine: Machine) -> None:
    """What needs them is refused; what needs a store is not. Locking again is harmless."""
    vault = machine.vault
    assert vault.state is VaultState.LOCKED
    with pytest.raises(LockedError):
        _ = vault.keyring
    with pytest.raises(LockedError):
        vault.require(Needs.UNLOCKED)
    vault.require(Needs.STORE)
    vault.require(Needs.NOTHING)
    vault.lock()
    vault.lock()
    assert (vault.locks, machine.served, vault.store_id) == (2, [None, None], None)
    assert repr(vault) == "<Vault locked>"


def test_keys_from_unlock_to_lock(machine: Machine) -> None:
    """They are there in between, and zeroed before ``lock`` returns; the store's id is known from then on."""
    vault = machine.vault
    keyring = machine.open(VaultEvent.UNLOCK)
    assert vault.state.value == "unlocked"
    assert vault.keyring is keyring
    vault.require(Needs.UNLOCKED)
    vault.lock()
    assert vault.state.value == "locked"
    assert machine.served == [keyring, None]
    assert machine.arena.usage.used == 0
    assert vault.store_id == keyring.store_id


def test_unlocking_again_replaces_the_keys(machine: Machine) -> None:
    """No second set of keys stays in the arena."""
    machine.open(VaultEvent.UNLOCK)
    used = machine.arena.usage.used
    again = machine.open(VaultEvent.UNLOCK)
    assert machine.vault.keyring is again
    assert machine.arena.usage.used == used


def test_who_locks_means_it_for_an_unlock_under_way(machine: Machine) -> None:
    """Keys that come after it are refused, and zeroed."""
    locks = machine.vault.locks
    late = machine.keyring()
    machine.vault.locks += 1  # as ``lock`` does
    with pytest.raises(ContentionError, match="locked while"):
        machine.vault.open(late, VaultEvent.UNLOCK, locks=locks)
    assert machine.vault.state is VaultState.LOCKED
    assert machine.arena.usage.used == 0


def test_state_decides_what_may_happen(arena: Arena, machine: Machine) -> None:
    """Where there is a store none is created, where there is none none is unlocked; no key stays."""
    empty = Machine(arena, initialised=False)
    with pytest.raises(UninitialisedError):
        empty.vault.require(Needs.STORE)
    for vault, event, refusal in (
        (machine.vault, VaultEvent.CREATE, AlreadyExistsError),
        (empty.vault, VaultEvent.UNLOCK, UninitialisedError),
    ):
        with pytest.raises(refusal):
            vault.check(event)
        with pytest.raises(refusal):
            vault.open(machine.keyring(), event, locks=vault.locks)
        assert arena.usage.used == 0
    empty.open(VaultEvent.CREATE)
    assert empty.vault.state.value == "unlocked"
    empty.vault.lock()
    assert empty.vault.state.value == "locked"


def test_vault_that_is_due_is_locked_by_whoever_comes(machine: Machine) -> None:
    """A key is never used past the deadline, though nobody has come to lock yet; use puts it off."""
    machine.open(VaultEvent.UNLOCK)
    for machine.now in (59.0, 118.0):
        machine.vault.require(Needs.UNLOCKED)
    machine.vault.require(Needs.STORE)  # which is no use of a key
    machine.now = 178.0
    with pytest.raises(LockedError):
        machine.vault.require(Needs.UNLOCKED)
    assert machine.vault.state is VaultState.LOCKED
    assert machine.arena.usage.used == 0


def test_why_it_is_locked(arena: Arena, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The first reason holds until it is unlocked; who locks by himself is one line of the log."""
    caplog.set_level(logging.INFO)
    vault = machine.vault
    assert vault.locked_because is LockReason.NEVER_UNLOCKED
    vault.lock()
    assert vault.locked_because is LockReason.NEVER_UNLOCKED
    machine.open(VaultEvent.UNLOCK)
    assert vault.locked_because is None
    vault.lock()
    assert vault.locked_because is LockReason.REQUEST
    assert not caplog.records
    for used, end, reason in (((), 60, LockReason.IDLE), (range(50, 3600, 50), 3600, LockReason.LIFETIME)):
        machine.now = 0
        machine.open(VaultEvent.UNLOCK)
        for now in (*used, end):
            machine.now = now
            assert vault.locked_because is None
            with nullcontext() if now != end else pytest.raises(LockedError):
                vault.require(Needs.UNLOCKED)
        vault.lock()
        assert vault.locked_because is reason
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["locked itself"] * 2
    empty = Machine(arena, initialised=False).vault
    empty.lock()
    assert empty.locked_because is None
