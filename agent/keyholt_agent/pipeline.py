"""The way of a request: in by one function, to its handler, and out by one function.

::

    begin      1 look up the operation      once the header is there, unless it has a defect of its own
               2 hold the payload's size against it
               3 decode the typed request
               4 gate: the state of the agent
               5 authorise                  who asks, and for what exactly
               6 take memory for the payload
    carry_out  7 call the handler           once the payload is whole
    wait_for     and wait for it, if it has to
    _conclude  8 translate what it met      results and refusals alike, from whichever stage
               9 audit

- Nothing goes around ``begin`` on the way in, nor around ``_conclude`` on the way out: a policy and an audit
  log are stages of them.
- A request that cannot be served never takes memory for its payload.
- A handler that needs to wait gives an awaitable; one that does not, and that is every cached fetch, answers
  at once, without a task or a thread.
- What a handler needs to know of the state it finds out again: the agent may be locked between the stages.
- The registry is an argument: another process serves other operations by the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from keyholt_agent.defects import log_defect
from keyholt_agent.memory import Arena, LockedBuffer
from keyholt_agent.principal import Principal
from keyholt_protocol.codec import from_map
from keyholt_protocol.errors import (
    InternalError,
    InvalidRequestError,
    KeyholtError,
    TooLargeError,
    UnsupportedError,
)
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.operations import Needs, Operation
from keyholt_protocol.usual import PackedResult

__all__ = [
    "AnyBinding",
    "Audit",
    "Authorise",
    "Binding",
    "Call",
    "Gate",
    "Handler",
    "Outcome",
    "Pipeline",
    "Reply",
    "allow_all",
    "audit_nothing",
    "bind",
]

Request = TypeVar("Request")
Result = TypeVar("Result")
Part = TypeVar("Part")


class Call(Generic[Request]):
    """One request on its way.

    Attributes:
        id: the number that its peer gave it.
        op: the operation, as the peer names it.
        principal: who asks.
        request: the typed request; there from the authorisation on.
        in_turn: whether its answer may be large, so that it waits until the peer has taken those before.
        pause: set by whoever waits for a call; see ``let_others``.
        payload: locked memory with the request's payload; given back when the call is concluded.
    """

    __slots__ = ("id", "in_turn", "op", "pause", "payload", "principal", "request")

    request: Request
    pause: Callable[[], Awaitable[None]]

    def __init__(self, request_id: int, op: str, principal: Principal) -> None:
        self.id = request_id
        self.op = op
        self.principal = principal
        self.in_turn = False
        self.payload: LockedBuffer | None = None

    @property
    def body(self) -> memoryview:
        """The payload of an operation that takes one; valid until the call is concluded."""
        if self.payload is None:
            raise InternalError
        return self.payload.view

    async def let_others(self) -> None:
        """To be awaited now and then by a handler that has much to do: others have their turn first."""
        if hasattr(self, "pause"):
            await self.pause()

    def release(self) -> None:
        """Zero and give back the payload; again is harmless."""
        payload, self.payload = self.payload, None
        if payload is not None:
            payload.release()


@dataclass(slots=True, kw_only=True)
class Reply(Generic[Result]):
    """A handler's answer. Whoever sends it owns the payload and releases it once it is sent.

    Attributes:
        result: packed already, where the same one is sent again and again.
    """

    result: Result | PackedResult
    payload: LockedBuffer | None = None


Outcome: TypeAlias = Reply[Any] | KeyholtError
"""What a request comes to: its result, or why it was refused."""

Handler: TypeAlias = Callable[[Call[Request]], Reply[Result] | Awaitable[Reply[Result]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding(Generic[Request, Result]):
    """An operation and what answers it; made by ``bind``, which the type checker holds to it."""

    operation: Operation[Request, Result]
    handler: Handler[Request, Result]


AnyBinding: TypeAlias = Binding[Any, Any]


def bind(
    operation: Operation[Request, Result],
    handler: Callable[[Part, Call[Request]], Reply[Result] | Awaitable[Reply[Result]]],
    part: Part,
) -> Binding[Request, Result]:
    """Bind an operation to its handler, and the handler to the part of the agent that it works with.

    A handler of another operation is an error of types: it takes another request, or gives another result.
    """
    return Binding(operation=operation, handler=partial(handler, part))


Gate: TypeAlias = Callable[[Needs], None]
"""Raises what keeps the agent, in its present state, from an operation with these needs."""

Authorise: TypeAlias = Callable[[Call[Any], Operation[Any, Any]], None]
"""Raises ``DeniedError`` if the call's principal may not have this request of the operation."""

Audit: TypeAlias = Callable[[Call[Any], Outcome], None]
"""Is told what each request came to, before its answer leaves."""


def allow_all(call: Call[Any], operation: Operation[Any, Any]) -> None:
    """Whoever may connect may do everything: the listener admits only uids that are allowed to."""


def audit_nothing(call: Call[Any], outcome: Outcome) -> None:
    """Nothing is kept of requests so far."""


class Pipeline:
    """Takes requests to their handlers, and what they come to back out.

    Args:
        registry: the operations there are, by name.
        bindings: one for every operation of the registry.
        gate: decides whether the agent is in the state that an operation needs.
        arena: where payloads are held.
        authorise: decides whether a principal may use an operation.
        audit: is told of every outcome.
    """

    def __init__(
        self,
        registry: Mapping[str, Operation[Any, Any]],
        bindings: Iterable[AnyBinding],
        *,
        gate: Gate,
        arena: Arena,
        authorise: Authorise = allow_all,
        audit: Audit = audit_nothing,
    ) -> None:
        self._registry: Final = registry
        self._handlers: Final = {binding.operation.name: binding.handler for binding in bindings}
        self._in_turn: Final = {name for name, operation in registry.items() if operation.waits_its_turn}
        self._gate: Final = gate
        self._arena: Final = arena
        self._authorise: Final = authorise
        self._audit: Final = audit
        if self._handlers.keys() != registry.keys():
            odd = ", ".join(sorted(self._handlers.keys() ^ registry.keys()))
            raise AssertionError(f"handlers and registry are not the same set: {odd}")

    def begin(self, event: RequestReceived, principal: Principal) -> Call[Any] | KeyholtError:
        """Everything that can be decided before the payload is taken; a refusal is concluded already."""
        call: Call[Any] = Call(event.id, event.op, principal)
        try:
            if event.defect is not None:
                raise event.defect
            operation = self._registry.get(event.op)
            if operation is None:
                raise UnsupportedError(
                    f"there is no operation {event.op[:64]!r}; the agent may be older than the client"
                )
            if event.payload_size > operation.max_payload:
                raise _payload_error(operation, event.payload_size)
            call.in_turn = event.op in self._in_turn
            call.request = event.message or from_map(operation.request, event.args)
            self._gate(operation.needs)
            self._authorise(call, operation)
            if operation.payload is not None:
                call.payload = self._arena.allocate(event.payload_size)
        except Exception as error:
            return self._refused(call, error)
        return call

    def refuse(self, event: RequestReceived, principal: Principal, error: KeyholtError) -> KeyholtError:
        """Conclude a request that its connection has no room for."""
        return self._refused(Call(event.id, event.op, principal), error)

    def turn_away(self, call: Call[Any], error: KeyholtError) -> KeyholtError:
        """Conclude a call that was begun and is not to be carried out any more."""
        return self._refused(call, error)

    def carry_out(self, call: Call[Any]) -> Outcome | Awaitable[Reply[Any]]:
        """Call the handler; what is still to be waited for goes to ``wait_for``."""
        try:
            reply = self._handlers[call.op](call)
        except Exception as error:
            return self._refused(call, error)
        return self._conclude(call, reply) if type(reply) is Reply else cast("Awaitable[Reply[Any]]", reply)

    async def wait_for(self, call: Call[Any], reply: Awaitable[Reply[Any]]) -> Outcome:
        """Wait for a handler that could not answer at once."""
        try:
            return self._conclude(call, await reply)
        except Exception as error:
            return self._refused(call, error)
        finally:
            call.release()  # also where the peer has left, and the call was cancelled

    def _refused(self, call: Call[Any], error: Exception) -> KeyholtError:
        """What is told of an error: itself if it is one of the protocol's, else that there is a defect."""
        if isinstance(error, InternalError) or not isinstance(error, KeyholtError):
            log_defect(error)
            error = InternalError()
        self._conclude(call, error)
        return error

    def _conclude(self, call: Call[Any], outcome: Outcome) -> Outcome:
        """The one way out."""
        if call.payload is not None:
            call.release()
        try:
            self._audit(call, outcome)
        except BaseException:
            if isinstance(outcome, Reply) and outcome.payload is not None:
                outcome.payload.release()  # what cannot be audited does not leave
            raise
        return outcome


def _payload_error(operation: Operation[Any, Any], size: int) -> KeyholtError:
    if operation.payload is None:
        return InvalidRequestError(
            f"{operation.name} takes no payload; send the header alone", details={"field": "payload"}
        )
    return TooLargeError(
        f"the payload of {operation.name} is {size} bytes; at most {operation.max_payload} are allowed",
        details={"field": "payload", "limit": operation.max_payload},
    )
