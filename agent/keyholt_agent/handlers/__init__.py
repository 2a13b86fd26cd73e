"""The handlers: one function an operation, named like its verb, in a module named like its domain.

A handler takes the services and the call, and gives a reply or an awaitable of one. It raises the errors
that its operation lists; it never touches the connection.
"""

from __future__ import annotations

from typing import Final

from keyholt_agent.handlers import agent, secret, session, slot, store
from keyholt_agent.pipeline import Handler
from keyholt_protocol import operations

__all__ = ["HANDLERS"]

HANDLERS: Final[dict[str, Handler]] = {
    operations.HELLO.name: session.hello,
    operations.INIT.name: store.init,
    operations.STATUS.name: agent.status,
    operations.UNLOCK.name: agent.unlock,
    operations.LOCK.name: agent.lock,
    operations.SLOT_LIST.name: slot.list_slots,
    operations.SLOT_ADD.name: slot.add,
    operations.SLOT_REMOVE.name: slot.remove,
    operations.PUT.name: secret.put,
    operations.GET.name: secret.get,
    operations.LIST.name: secret.list_secrets,
    operations.HISTORY.name: secret.history,
    operations.DELETE.name: secret.delete,
    operations.UNDELETE.name: secret.undelete,
    operations.DESTROY.name: secret.destroy,
}
"""The handler of every operation of the registry; ``Pipeline`` asserts that none is missing or extra."""
