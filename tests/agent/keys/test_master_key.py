"""One master key: permits to wrap with its active version, and what has to be committed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.keys.budget import WRAP_RESERVATION, WRAPS_PER_VERSION
from keyholt_agent.keys.master_key import MasterKey, ReserveWraps, RotateMaster
from keyholt_protocol.errors import InternalError, LockedError
from tests.agent.keys.builders import MASTER_ID, create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyholt_agent.keys.custody import SoftwareCustody


@pytest.fixture
def loaded(custody: SoftwareCustody) -> Iterator[Callable[[int], MasterKey]]:
    """A master key with one version, of which the store has counted so many wraps."""
    made: list[MasterKey] = []

    def load(reserved: int) -> MasterKey:
        stored = create(custody, wraps_reserved=reserved)
        master = MasterKey("default", MASTER_ID)
        master.load(stored, custody.open(stored))
        master.check()
        made.append(master)
        return master

    yield load
    for one in made:
        one.release()
        one.release()


def supplied(master: MasterKey) -> MasterKey:
    """The master key with a reservation granted."""
    need = master.need()
    assert isinstance(need, ReserveWraps)
    master.granted(need)
    return master


def test_permit_needs_a_reservation(loaded: Callable[[int], MasterKey]) -> None:
    """The need says what to commit; once it was, permits come out of it, one a wrap."""
    master = loaded(WRAP_RESERVATION)
    with pytest.raises(InternalError, match="not reserved"):
        master.permit()
    assert master.need() == ReserveWraps(
        key_id=MASTER_ID, version=1, count=WRAP_RESERVATION, limit=WRAPS_PER_VERSION
    )
    supplied(master)
    for _ in range(WRAP_RESERVATION):
        assert master.need() is None
        assert master.permit().use() is master.active
    with pytest.raises(InternalError):
        master.permit()


def test_permit_is_used_once(loaded: Callable[[int], MasterKey]) -> None:
    """A second wrap with it would not be counted."""
    permit = supplied(loaded(0)).permit()
    permit.use()
    with pytest.raises(InternalError, match="used twice"):
        permit.use()


def test_permit_does_not_outlive_its_version(
    loaded: Callable[[int], MasterKey], custody: SoftwareCustody
) -> None:
    """A version that was retired wraps no more, whatever was permitted before; nor does a released key."""
    master = supplied(loaded(0))
    early, late = master.permit(), None
    second = create(custody, 2)
    master.put_in_force(second, custody.open(second))
    with pytest.raises(InternalError, match="retired"):
        early.use()
    late = supplied(master).permit()
    master.release()
    with pytest.raises(LockedError):
        late.use()
    for use in (master.need, master.permit):
        with pytest.raises(LockedError):
            use()


def test_used_up_version_asks_for_rotation(
    loaded: Callable[[int], MasterKey], custody: SoftwareCustody
) -> None:
    """The last block is cut to the limit; then a new version takes over and the old one still unwraps."""
    master = loaded(WRAPS_PER_VERSION - 1)
    need = master.need()
    assert isinstance(need, ReserveWraps)
    assert need.count == 1
    master.granted(need)
    master.permit()
    stored = create(custody, 2)
    assert master.need() == RotateMaster(name="default", key_id=MASTER_ID, version=1, custody=stored.custody)
    master.put_in_force(stored, custody.open(stored))
    assert master.active is not None
    assert master.active.version == 2
    master.granted(need)
    with pytest.raises(InternalError):
        master.permit()  # a reservation of the old version is worth nothing for the new one
    assert master.key(1) is not None
