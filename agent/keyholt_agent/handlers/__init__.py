"""The handlers: one function an operation, named like its verb, in a module named like its domain.

A handler takes the part of the agent that it works with and the call, and gives a reply or an awaitable of
one. It raises the errors that its operation lists; it never touches the connection. Each module binds
its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.handlers import agent, secret, session, slot, store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyholt_agent.pipeline import AnyBinding
    from keyholt_agent.services import Services

__all__ = ["bindings"]


def bindings(services: Services, features: Sequence[str] = ()) -> tuple[AnyBinding, ...]:
    """The handler of every operation of the registry; ``Pipeline`` asserts that none is missing or extra.

    Args:
        features: what the greeting says that this agent can do beyond the registry.
    """
    domains = (store, agent, slot, secret)
    return (
        *session.bindings(features),
        *(binding for domain in domains for binding in domain.bindings(services)),
    )
