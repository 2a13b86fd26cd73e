"""The states of the vault: what leads from one to another, and what may be done in which.

::

    uninitialised --CREATE--> unlocked --LOCK--> locked
                              unlocked <-UNLOCK- locked
                              unlocked <-UNLOCK- unlocked (the keys are read anew)

Pure: two tables and the questions that are asked of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final

from keyholt_protocol.errors import AlreadyExistsError, KeyholtError, LockedError, UninitialisedError
from keyholt_protocol.operations import Needs

__all__ = ["LockReason", "VaultEvent", "VaultState", "after", "refusals"]


class VaultState(StrEnum):
    """The name is told to clients."""

    UNINITIALISED = "uninitialised"  # there is no store
    LOCKED = "locked"
    UNLOCKED = "unlocked"  # the root key is in memory


class LockReason(StrEnum):
    """Why a vault is locked. The name is told to clients."""

    NEVER_UNLOCKED = "never_unlocked"  # since the agent started
    REQUEST = "request"  # somebody has locked it
    IDLE = "idle"  # no key was used for as long as is configured
    LIFETIME = "lifetime"  # it was unlocked for as long as is configured
    STORE_FAILURE = "store_failure"  # the store failed, and may hold another root key since


class VaultEvent(Enum):
    """What happens to a vault."""

    CREATE = auto()  # a store was made, and its keys are here
    UNLOCK = auto()  # a keyslot has opened, and the keys are here, for the first time or anew
    LOCK = auto()  # the keys go


_AFTER: Final[Mapping[tuple[VaultState, VaultEvent], VaultState | type[KeyholtError]]] = {
    (VaultState.UNINITIALISED, VaultEvent.CREATE): VaultState.UNLOCKED,
    (VaultState.UNINITIALISED, VaultEvent.UNLOCK): UninitialisedError,
    (VaultState.UNINITIALISED, VaultEvent.LOCK): VaultState.UNINITIALISED,
    (VaultState.LOCKED, VaultEvent.CREATE): AlreadyExistsError,
    (VaultState.LOCKED, VaultEvent.UNLOCK): VaultState.UNLOCKED,
    (VaultState.LOCKED, VaultEvent.LOCK): VaultState.LOCKED,
    (VaultState.UNLOCKED, VaultEvent.CREATE): AlreadyExistsError,
    (VaultState.UNLOCKED, VaultEvent.UNLOCK): VaultState.UNLOCKED,
    (VaultState.UNLOCKED, VaultEvent.LOCK): VaultState.LOCKED,
}
"""Every state and every event: the state that follows, or how the event is refused."""

_REFUSALS: Final[Mapping[VaultState, Mapping[Needs, type[KeyholtError]]]] = {
    VaultState.UNINITIALISED: {Needs.STORE: UninitialisedError, Needs.UNLOCKED: UninitialisedError},
    VaultState.LOCKED: {Needs.UNLOCKED: LockedError},
    VaultState.UNLOCKED: {},
}
"""What a state lacks, and how who needs it is refused."""


def after(state: VaultState, event: VaultEvent) -> VaultState:
    """The state that follows.

    Raises:
        UninitialisedError, AlreadyExistsError: the event cannot happen in this state.
    """
    following = _AFTER[state, event]
    if isinstance(following, VaultState):
        return following
    raise following


def refusals(state: VaultState) -> Mapping[Needs, type[KeyholtError]]:
    """How an operation is refused in a state, by what it needs; what is not in it is allowed."""
    return _REFUSALS[state]
