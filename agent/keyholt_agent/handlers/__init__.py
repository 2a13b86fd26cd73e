"""The handlers: one function an operation, named like its verb, in a module named like its domain.

A handler takes the part of the agent that it works with and the call, and gives a reply or an awaitable of
one. It raises the errors that its operation lists; it never touches the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent import __version__
from keyholt_agent.handlers import agent, secret, session, slot, store
from keyholt_agent.pipeline import AnyBinding, bind
from keyholt_protocol import operations

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["bindings"]


def bindings(services: Services) -> tuple[AnyBinding, ...]:
    """The handler of every operation of the registry; ``Pipeline`` asserts that none is missing or extra."""
    return (
        bind(operations.SESSION_HELLO, session.hello, f"keyholt-agent {__version__}"),
        bind(operations.STORE_INIT, store.init, services),
        bind(operations.AGENT_STATUS, agent.status, services),
        bind(operations.AGENT_UNLOCK, agent.unlock, services.unlocking),
        bind(operations.AGENT_LOCK, agent.lock, services.vault),
        bind(operations.SLOT_LIST, slot.list_slots, services.keyslots),
        bind(operations.SLOT_ADD, slot.add, services.keyslots),
        bind(operations.SLOT_REMOVE, slot.remove, services.keyslots),
        bind(operations.SECRET_PUT, secret.put, services),
        bind(operations.SECRET_GET, secret.get, services),
        bind(operations.SECRET_LIST, secret.list_secrets, services.store),
        bind(operations.SECRET_HISTORY, secret.history, services.store),
        bind(operations.SECRET_DELETE, secret.delete, services.store),
        bind(operations.SECRET_UNDELETE, secret.undelete, services.store),
        bind(operations.SECRET_DESTROY, secret.destroy, services.store),
    )
