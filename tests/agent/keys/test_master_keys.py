"""The master keys of a store: loading, finding, and putting new versions in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.key_states import Custody, KeyState
from keyholt_agent.keys.budget import WRAPS_PER_VERSION
from keyholt_agent.keys.master_key import RotateMaster
from keyholt_agent.keys.master_keys import MasterKeys
from keyholt_protocol.errors import IntegrityError
from tests.agent.keys.builders import MASTER_ID, create, custodians, reference

if TYPE_CHECKING:
    from keyholt_agent.keys.custody import SoftwareCustody
    from keyholt_agent.memory import Arena


def test_versions_are_found_by_id_and_number(custody: SoftwareCustody) -> None:
    """All usable versions load, each with a key of its own; the active one wraps."""
    stored = [
        create(custody, 1, state=KeyState.COMPROMISED),
        create(custody, 2, state=KeyState.DECRYPT_ONLY),
        create(custody, 3),
        create(custody, 4, state=KeyState.PENDING),
        create(custody, 5, state=KeyState.DESTROYED, wrapped=b""),
    ]
    masters = MasterKeys.load(custodians(custody), stored)
    active = masters.named("default").active
    assert active is not None
    assert (active.key_id, active.version) == (MASTER_ID, 3)
    assert len({masters.referenced(reference(MASTER_ID, version)) for version in (1, 2, 3)}) == 3
    assert masters.referenced(reference(MASTER_ID, 3)) is active.key
    for key_id, version in ((MASTER_ID, 4), (MASTER_ID, 5), (b"x" * 16, 3)):
        with pytest.raises(IntegrityError, match="does not have"):
            masters.referenced(reference(key_id, version))
    with pytest.raises(IntegrityError, match="no master key 'other'"):
        masters.named("other")
    assert repr(masters) == "<MasterKeys 3 versions>"
    masters.release()
    masters.release()


def test_keys_of_several_names(custody: SoftwareCustody) -> None:
    """Each has versions and an active one of its own."""
    other = custody.create("payments", b"p" * 16, 1)
    masters = MasterKeys.load(custodians(custody), [create(custody), other])
    assert masters.named("payments").active is not masters.named("default").active
    assert masters.named("payments").key_id == b"p" * 16
    masters.release()


@pytest.mark.parametrize("states", [[KeyState.DECRYPT_ONLY], [KeyState.ACTIVE, KeyState.ACTIVE]])
def test_exactly_one_version_is_active(custody: SoftwareCustody, states: list[KeyState]) -> None:
    """None or two are a damaged store; nothing stays in the arena."""
    stored = [create(custody, version, state=state) for version, state in enumerate(states, 1)]
    with pytest.raises(IntegrityError, match=r"active version"):
        MasterKeys.load(custodians(custody), stored)


def test_older_version_made_active_is_refused(custody: SoftwareCustody) -> None:
    """Whoever edits the states cannot have an old version, one that is compromised say, wrap again."""
    for newer in (KeyState.DECRYPT_ONLY, KeyState.COMPROMISED):
        with pytest.raises(IntegrityError, match="an older version"):
            MasterKeys.load(custodians(custody), [create(custody, 1), create(custody, 2, state=newer)])


def test_rows_that_contradict_each_other_are_refused(custody: SoftwareCustody) -> None:
    """A version twice, and a name of two keys; nothing stays in the arena."""
    with pytest.raises(IntegrityError, match="twice"):
        MasterKeys.load(custodians(custody), [create(custody), create(custody)])
    other = custody.create("default", b"x" * 16, 2)
    with pytest.raises(IntegrityError, match="two master keys"):
        MasterKeys.load(custodians(custody), [create(custody, state=KeyState.DECRYPT_ONLY), other])


def test_custody_that_is_not_offered_is_named(custody: SoftwareCustody) -> None:
    """A key in a token is not taken for a software key that is damaged."""
    with pytest.raises(IntegrityError, match="'token-resident'"):
        MasterKeys.load(custodians(custody), [create(custody, custody=Custody.TOKEN_RESIDENT)])


def test_next_version(custody: SoftwareCustody) -> None:
    """It has the id and custody of the one before, and wraps once it is in force; the old one unwraps."""
    masters = MasterKeys.load(custodians(custody), [create(custody)])
    rotation = RotateMaster(name="default", key_id=MASTER_ID, version=1, custody=Custody.SOFTWARE)
    following = masters.next_version(rotation)
    assert (following.key_id, following.name, following.version) == (MASTER_ID, "default", 2)
    with pytest.raises(IntegrityError):
        masters.referenced(reference(MASTER_ID, 2))
    masters.put_in_force(following)
    active = masters.named("default").active
    assert active is not None
    assert (active.version, active.key) == (2, masters.referenced(reference(MASTER_ID, 2)))
    assert masters.referenced(reference(MASTER_ID, 1)) is not active.key
    masters.release()


def test_version_that_is_caught_up_with_takes_no_further_block(
    arena: Arena, custody: SoftwareCustody
) -> None:
    """What the store says of a version is taken over as often as need be; its key is held once."""
    stored = create(custody)
    masters = MasterKeys.load(custodians(custody), [stored])
    blocks = arena.usage.blocks
    for reserved in (1024, 2048, WRAPS_PER_VERSION):
        masters.put_in_force(create(custody, wraps_reserved=reserved))
    assert arena.usage.blocks == blocks
    assert isinstance(masters.named("default").need(), RotateMaster)
    masters.release()
