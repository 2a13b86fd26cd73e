"""The stages before and at a handler: what is refused without it, and that every operation has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.handlers import HANDLERS
from keyholt_agent.pipeline import Pipeline
from keyholt_protocol.connection import RequestReceived
from keyholt_protocol.errors import (
    DeniedError,
    InvalidRequestError,
    KeyholtError,
    LockedError,
    TooLargeError,
    UninitialisedError,
    UnsupportedError,
)
from keyholt_protocol.operations import ANY_OPERATION, OPERATIONS, Needs, Operation
from tests.support.inside import PEER, found

if TYPE_CHECKING:
    from keyholt_agent.principal import Principal
    from keyholt_agent.services import Services

ARGUMENTS: dict[str, dict[str, object]] = {
    "session.hello": {"version": 1},
    "slot.add": {"name": "n", "existing_size": 1},
    "slot.remove": {"name": "n"},
    "secret.destroy": {"path": "a", "version": 1},
    **{f"secret.{verb}": {"path": "a"} for verb in ("put", "get", "history", "delete", "undelete")},
}  # fmt: skip


def event(op: str, payload_size: int = 0, **more: object) -> RequestReceived:
    """A request that is well formed for its operation."""
    return RequestReceived(id=1, op=op, args={**ARGUMENTS.get(op, {}), **more}, payload_size=payload_size)


async def test_handlers_are_the_registry(services: Services) -> None:
    """One handler an operation: one missing or one too many is found at the start, and named."""
    Pipeline(services, HANDLERS)
    missing = {name: handler for name, handler in HANDLERS.items() if name != "secret.get"}
    with pytest.raises(AssertionError, match=r"not the same set: secret\.get"):
        Pipeline(services, missing)
    with pytest.raises(AssertionError, match=r"not the same set: secret\.steal"):
        Pipeline(services, {**HANDLERS, "secret.steal": HANDLERS["secret.get"]})


@pytest.mark.parametrize("name", OPERATIONS)
async def test_payload_is_held_against_the_operation(services: Services, name: str) -> None:
    """None where none is taken, and no more than is allowed, before any memory is taken for it."""
    operation = OPERATIONS[name]
    pipeline = Pipeline(services, HANDLERS)
    if operation.payload is None:
        with pytest.raises(InvalidRequestError, match="takes no payload"):
            pipeline.admit(event(name, 1), PEER)
    else:
        with pytest.raises(TooLargeError):
            pipeline.admit(event(name, operation.max_payload + 1), PEER)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_state_is_held_against_the_operation(services: Services, name: str) -> None:
    """Without a store, locked, and unlocked: what an operation needs decides."""
    operation = OPERATIONS[name]
    pipeline = Pipeline(services, HANDLERS)

    def refusal() -> type[KeyholtError] | None:
        try:
            pipeline.admit(event(name), PEER)
        except KeyholtError as error:
            return type(error)
        return None

    assert refusal() is (None if operation.needs is Needs.NOTHING else UninitialisedError)
    await found(services)
    assert refusal() is None
    services.lock()
    assert refusal() is (LockedError if operation.needs is Needs.UNLOCKED else None)
    listed = {error.name for error in operation.errors | ANY_OPERATION}
    if operation.needs is not Needs.NOTHING:
        assert "UNINITIALISED" in listed
    if operation.needs is Needs.UNLOCKED:
        assert "LOCKED" in listed


async def test_unknown_operation_and_fields(services: Services) -> None:
    """Named in the refusal, and cut off where long."""
    pipeline = Pipeline(services, HANDLERS)
    with pytest.raises(UnsupportedError, match=r"'secret\.steal'"):
        pipeline.admit(event("secret.steal"), PEER)
    with pytest.raises(UnsupportedError) as caught:
        pipeline.admit(event("x" * 60_000), PEER)
    assert len(str(caught.value)) < 200
    for name in OPERATIONS:
        with pytest.raises(InvalidRequestError, match="'odd' is not a field here"):
            pipeline.admit(event(name, odd=1), PEER)


async def test_authorisation_comes_before_the_handler(services: Services) -> None:
    """A peer that may not is refused when the header is there; the rule is told who asks for what."""
    asked: list[tuple[Principal, str]] = []

    def deny(principal: Principal, operation: Operation[object, object]) -> None:
        asked.append((principal, operation.name))
        raise DeniedError

    pipeline = Pipeline(services, HANDLERS, deny)
    with pytest.raises(DeniedError):
        pipeline.admit(event("agent.status"), PEER)
    assert asked == [(PEER, "agent.status")]
