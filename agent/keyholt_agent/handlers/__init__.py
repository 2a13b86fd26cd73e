"""The handlers: one function an operation, named like its verb, in a module named like its domain.

A handler takes the part of the agent that it works with and the call, and gives a reply or an awaitable of
one. It raises the errors that its operation lists; it never touches the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.handlers import agent, secret, session, slot, store
from keyholt_agent.pipeline import AnyBinding, bind
from keyholt_protocol import operations

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["bindings"]


def bindings(services: Services) -> tuple[AnyBinding, ...]:
    """The handler of every operation of the registry; ``Pipeline`` asserts that none is missing or extra."""
    return (
        bind(operations.HELLO, session.hello, services),
        bind(operations.INIT, store.init, services),
        bind(operations.STATUS, agent.status, services),
        bind(operations.UNLOCK, agent.unlock, services),
        bind(operations.LOCK, agent.lock, services),
        bind(operations.SLOT_LIST, slot.list_slots, services),
        bind(operations.SLOT_ADD, slot.add, services),
        bind(operations.SLOT_REMOVE, slot.remove, services),
        bind(operations.PUT, secret.put, services),
        bind(operations.GET, secret.get, services),
        bind(operations.LIST, secret.list_secrets, services),
        bind(operations.HISTORY, secret.history, services),
        bind(operations.DELETE, secret.delete, services),
        bind(operations.UNDELETE, secret.undelete, services),
        bind(operations.DESTROY, secret.destroy, services),
    )
