"""The tables of the vault's states are whole, and say what they are to say."""

from __future__ import annotations

import itertools

import pytest

from keyholt_agent.vault.state import VaultEvent, VaultState, after, refusals
from keyholt_protocol.errors import AlreadyExistsError, LockedError, UninitialisedError
from keyholt_protocol.operations import Needs

UNINITIALISED, LOCKED, UNLOCKED = VaultState


@pytest.mark.parametrize(
    "event, following",
    [
        (VaultEvent.CREATE, (UNLOCKED, AlreadyExistsError, AlreadyExistsError)),
        (VaultEvent.UNLOCK, (UninitialisedError, UNLOCKED, UNLOCKED)),
        (VaultEvent.LOCK, (UNINITIALISED, LOCKED, LOCKED)),
    ],
)
def test_every_event_in_every_state(
    event: VaultEvent, following: tuple[VaultState | type[Exception], ...]
) -> None:
    """It leads to a state or is refused by name; no pair is left out."""
    for state, expected in zip(VaultState, following, strict=True):
        if isinstance(expected, VaultState):
            assert after(state, event) is expected
        else:
            with pytest.raises(expected):
                after(state, event)


def test_no_way_back_to_no_store() -> None:
    """What was created stays, whatever happens."""
    for state, event in itertools.product((LOCKED, UNLOCKED), VaultEvent):
        if (state, event) not in {(LOCKED, VaultEvent.CREATE), (UNLOCKED, VaultEvent.CREATE)}:
            assert after(state, event) is not UNINITIALISED


def test_what_each_state_lacks() -> None:
    """Keys are needed where they are only; what needs nothing is never refused."""
    assert refusals(UNINITIALISED) == {Needs.STORE: UninitialisedError, Needs.UNLOCKED: UninitialisedError}
    assert refusals(LOCKED) == {Needs.UNLOCKED: LockedError}
    assert refusals(UNLOCKED) == {}
    assert all(Needs.NOTHING not in refusals(state) for state in VaultState)
