"""What is looked at before anybody is asked for a secret: whether what it is for can be done at all.

- Each refuses with the error that the agent would answer afterwards. The agent still has the last word, for
  things may change while somebody types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_protocol.errors import AlreadyExistsError, LockedError, NotFoundError, UninitialisedError

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["require_free_name", "require_keyslot", "require_no_store", "require_unlocked"]


def require_no_store(agent: Client) -> None:
    """For `init`.

    Raises:
        AlreadyExistsError: there is a store.
    """
    status = agent.status()
    if status.state != "uninitialised":
        raise AlreadyExistsError(f"there is a store already, {status.store_path}; `keyholt unlock` opens it")


def require_unlocked(agent: Client) -> None:
    """For what needs the keys.

    Raises:
        LockedError, UninitialisedError: there are none.
    """
    state = agent.status().state
    if state == "uninitialised":
        raise UninitialisedError
    if state != "unlocked":
        raise LockedError


def require_keyslot(agent: Client, name: str | None) -> None:
    """For what is done with a keyslot; ``None`` is any.

    Raises:
        NotFoundError: there is none of the name.
        UninitialisedError: there is no store.
    """
    names = [slot.name for slot in agent.slots.list()]
    if name is not None and name not in names:
        raise NotFoundError(f"there is no keyslot {name!r}; `keyholt slot list` shows them")


def require_free_name(agent: Client, name: str) -> None:
    """For a new keyslot.

    Raises:
        AlreadyExistsError: there is one of the name.
    """
    if name in [slot.name for slot in agent.slots.list()]:
        raise AlreadyExistsError(
            f"there is a keyslot {name!r} already; change it (`keyholt slot change`), or choose another name"
        )
