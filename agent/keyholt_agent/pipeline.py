"""The stages of a request between its bytes and its handler: look up, decode, gate, authorise, call.

- ``admit`` runs as soon as the header is there, so that a request which cannot be served never takes locked
  memory for its payload. ``invoke`` runs once the payload is whole.
- A handler that needs to wait gives an awaitable; one that does not, and that is every cached fetch, answers
  at once, without a task or a thread.
- What a handler needs to know of the state it finds out again: the agent may be locked between the two
  stages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from keyholt_agent.memory import LockedBuffer
from keyholt_agent.principal import Principal
from keyholt_protocol.codec import from_map
from keyholt_protocol.connection import RequestReceived
from keyholt_protocol.errors import (
    InternalError,
    InvalidRequestError,
    KeyholtError,
    TooLargeError,
    UninitialisedError,
    UnsupportedError,
)
from keyholt_protocol.operations import OPERATIONS, Needs, Operation

if TYPE_CHECKING:
    from keyholt_agent.services import Services

__all__ = ["Authorise", "Call", "Handler", "Pipeline", "Reply"]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way to a handler. The session owns the payload and releases it after the call."""

    operation: Operation[Any, Any]
    request: Any
    principal: Principal
    payload: LockedBuffer | None = None

    @property
    def takes_payload(self) -> bool:
        return self.operation.payload is not None

    @property
    def body(self) -> memoryview:
        """The payload of an operation that takes one; valid until the call has ended."""
        if self.payload is None:
            raise InternalError
        return self.payload.view


@dataclass(slots=True, kw_only=True)
class Reply:
    """A handler's answer. The session owns the payload from here on and releases it once it is sent."""

    result: Any
    payload: LockedBuffer | None = None


Handler = Callable[["Services", Call], Reply | Awaitable[Reply]]


Authorise = Callable[[Principal, Operation[Any, Any]], None]
"""Raises ``DeniedError`` if the principal may not use the operation."""


def allow_all(principal: Principal, operation: Operation[Any, Any]) -> None:
    """Whoever may connect may do everything: the listener admits only uids that are allowed to."""


class Pipeline:
    """Takes decoded requests to their handlers.

    Args:
        services: passed to every handler.
        handlers: by operation name; the same set as the registry.
        authorise: decides whether a principal may use an operation.
    """

    def __init__(
        self, services: Services, handlers: Mapping[str, Handler], authorise: Authorise = allow_all
    ) -> None:
        self._services = services
        self._authorise = authorise
        self._handlers: Final = dict(handlers)
        if self._handlers.keys() != OPERATIONS.keys():
            odd = ", ".join(sorted(self._handlers.keys() ^ OPERATIONS.keys()))
            raise AssertionError(f"handlers and registry are not the same set: {odd}")

    def admit(self, event: RequestReceived, principal: Principal) -> Call:
        """Everything that can be decided before the payload is taken.

        Raises:
            KeyholtError: the request is refused; its payload is to be discarded.
        """
        operation = OPERATIONS.get(event.op)
        if operation is None:
            raise UnsupportedError(
                f"there is no operation {event.op[:64]!r}; the agent may be older than the client"
            )
        request = from_map(operation.request, event.args)
        if event.payload_size > operation.max_payload:
            raise _payload_error(operation, event.payload_size)
        self._check_state(operation)
        self._authorise(principal, operation)
        return Call(operation=operation, request=request, principal=principal)

    def invoke(self, call: Call) -> Reply | Awaitable[Reply]:
        """Call the handler, which may raise any error that its operation lists."""
        return self._handlers[call.operation.name](self._services, call)

    def _check_state(self, operation: Operation[Any, Any]) -> None:
        needs, services = operation.needs, self._services
        if needs is not Needs.NOTHING and not services.initialised:
            raise UninitialisedError
        if needs is Needs.UNLOCKED:
            services.require_unlocked()


def _payload_error(operation: Operation[Any, Any], size: int) -> KeyholtError:
    if operation.payload is None:
        return InvalidRequestError(f"{operation.name} takes no payload; send the header alone")
    return TooLargeError(
        f"the payload of {operation.name} is {size} bytes; at most {operation.max_payload} are allowed"
    )
