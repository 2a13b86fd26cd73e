"""The stages before and at a handler: what is refused without it, and that every operation has one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from keyholt_agent.handlers import bindings, secret
from keyholt_agent.pipeline import Pipeline, Reply, allow_all, audit_nothing, bind
from keyholt_protocol.errors import (
    DeniedError,
    InvalidRequestError,
    KeyholtError,
    LockedError,
    ResourceExhaustedError,
    TooLargeError,
    UninitialisedError,
    UnsupportedError,
)
from keyholt_protocol.events import RequestReceived
from keyholt_protocol.operations import ANY_OPERATION, OPERATIONS, SECRET_GET, Needs, Operation
from tests.support.inside import PEER, create_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyholt_agent.pipeline import AnyBinding, Audit, Authorise, Call, Outcome
    from keyholt_agent.principal import Principal
    from keyholt_agent.services import Services

ARGUMENTS: dict[str, dict[str, object]] = {
    "session.hello": {"version": 1},
    "slot.add": {"name": "n"},
    "slot.remove": {"name": "n"},
    "secret.destroy": {"path": "a", "version": 1},
    "secret.move": {"path": "a", "to": "b"},
    "secret.copy": {"path": "a", "to": "b"},
    **{f"secret.{verb}": {"path": "a"} for verb in ("put", "get", "history", "delete", "undelete", "purge")},
}  # fmt: skip


def event(op: str, payload_size: int = 0, **more: object) -> RequestReceived:
    """A request that is well formed for its operation."""
    return RequestReceived(id=1, op=op, args={**ARGUMENTS.get(op, {}), **more}, payload_size=payload_size)


def pipeline_of(
    services: Services, *, authorise: Authorise = allow_all, audit: Audit = audit_nothing
) -> Pipeline:
    """The agent's own, with other stages."""
    return Pipeline(
        OPERATIONS,
        bindings(services),
        gate=services.vault.require,
        arena=services.arena,
        authorise=authorise,
        audit=audit,
    )


def refusal(pipeline: Pipeline, request: RequestReceived) -> KeyholtError:
    """Why a request is refused as soon as its header is there."""
    outcome = pipeline.begin(request, PEER)
    assert isinstance(outcome, KeyholtError)
    return outcome


async def test_handlers_are_the_registry(services: Services) -> None:
    """One handler an operation: one missing or one too many is found at the start, and named."""
    whole = bindings(services)

    def build(registry: Mapping[str, Operation[Any, Any]], some: Iterable[AnyBinding]) -> Pipeline:
        return Pipeline(registry, some, gate=services.vault.require, arena=services.arena)

    build(OPERATIONS, whole)
    missing = [one for one in whole if one.operation is not SECRET_GET]
    with pytest.raises(AssertionError, match=r"not the same set: secret\.get"):
        build(OPERATIONS, missing)
    with pytest.raises(AssertionError, match=r"not the same set: secret\.steal"):
        build(
            OPERATIONS, [*whole, bind(replace(SECRET_GET, name="secret.steal"), secret.get, services.secrets)]
        )


async def test_another_registry_is_served_alike(services: Services) -> None:
    """What there is to ask is an argument: an operation outside of it is unknown."""
    pipeline = Pipeline(
        {SECRET_GET.name: SECRET_GET},
        [bind(SECRET_GET, secret.get, services.secrets)],
        gate=services.vault.require,
        arena=services.arena,
    )
    assert isinstance(refusal(pipeline, event("agent.status")), UnsupportedError)
    assert isinstance(refusal(pipeline, event("secret.get")), UninitialisedError)


async def test_handler_is_of_its_operation(services: Services) -> None:
    """Another operation's handler is an error of types; were it none, the exemptions would be unused."""
    bind(SECRET_GET, secret.put, services.secrets)  # type: ignore[arg-type]  # another request and another result
    bind(SECRET_GET, secret.get, None)  # type: ignore[misc]  # not the part that it works with
    assert bind(SECRET_GET, secret.get, services.secrets).operation is SECRET_GET


@pytest.mark.parametrize("name", OPERATIONS)
async def test_payload_is_held_against_the_operation(services: Services, name: str) -> None:
    """None where none is taken, and no more than is allowed, before any memory is taken for it."""
    operation = OPERATIONS[name]
    pipeline, used = pipeline_of(services), services.arena.usage.used
    if operation.payload is None:
        refused = refusal(pipeline, event(name, 1))
        assert isinstance(refused, InvalidRequestError)
        assert "takes no payload" in str(refused)
    else:
        assert isinstance(refusal(pipeline, event(name, operation.max_payload + 1)), TooLargeError)
    assert services.arena.usage.used == used


@pytest.mark.parametrize("name", OPERATIONS)
async def test_state_is_held_against_the_operation(services: Services, name: str) -> None:
    """Without a store, locked, and unlocked: what an operation needs decides."""
    operation = OPERATIONS[name]
    pipeline = pipeline_of(services)

    def refused() -> type[KeyholtError] | None:
        outcome = pipeline.begin(event(name), PEER)
        if isinstance(outcome, KeyholtError):
            return type(outcome)
        outcome.release()
        return None

    assert refused() is (None if operation.needs is Needs.NOTHING else UninitialisedError)
    await create_store(services)
    assert refused() is None
    services.vault.lock()
    assert refused() is (LockedError if operation.needs is Needs.UNLOCKED else None)
    listed = {error.name for error in (*operation.errors, *ANY_OPERATION)}
    if operation.needs is not Needs.NOTHING:
        assert "UNINITIALISED" in listed
    if operation.needs is Needs.UNLOCKED:
        assert "LOCKED" in listed


async def test_unknown_operation_and_fields(services: Services) -> None:
    """Named in the refusal, and cut off where long."""
    pipeline = pipeline_of(services)
    unknown = refusal(pipeline, event("secret.steal"))
    assert isinstance(unknown, UnsupportedError)
    assert "'secret.steal'" in str(unknown)
    assert len(str(refusal(pipeline, event("x" * 60_000)))) < 200
    for name in OPERATIONS.keys() - {"session.hello"}:
        odd = refusal(pipeline, event(name, odd=1))
        assert isinstance(odd, InvalidRequestError)
        assert "'odd' is not a field here" in str(odd)
    greeting = pipeline.begin(event("session.hello", odd=1, version=1), PEER)
    assert not isinstance(greeting, KeyholtError)


async def test_authorisation_sees_the_typed_request(services: Services) -> None:
    """The rule is told who asks for what, path and all; whom it denies reaches no handler and takes no
    memory.
    """
    await create_store(services)
    asked: list[tuple[Principal, object, str]] = []

    def deny(call: Call[Any], operation: Operation[Any, Any]) -> None:
        asked.append((call.principal, call.request, operation.name))
        raise DeniedError

    used = services.arena.usage.used
    assert isinstance(refusal(pipeline_of(services, authorise=deny), event("secret.put", 1000)), DeniedError)
    assert services.arena.usage.used == used
    ((principal, request, name),) = asked
    assert (principal, request.path, name) == (PEER, "a", "secret.put")  # type: ignore[attr-defined]


async def test_every_outcome_passes_the_way_out(services: Services) -> None:
    """Results, and refusals of whichever stage, are told to the audit once each before they can be sent."""
    await create_store(services)
    told: list[tuple[str, str]] = []

    def audit(call: Call[Any], outcome: Outcome) -> None:
        assert call.payload is None  # it has been given back
        told.append((call.op, "result" if isinstance(outcome, Reply) else outcome.code.wire_name))

    pipeline = pipeline_of(services, audit=audit)

    async def whole(request: RequestReceived) -> None:
        call = pipeline.begin(request, PEER)
        if isinstance(call, KeyholtError):
            return
        outcome = pipeline.carry_out(call)
        if not isinstance(outcome, (Reply, KeyholtError)):
            outcome = await pipeline.wait_for(call, outcome)
        if isinstance(outcome, Reply) and outcome.payload is not None:
            outcome.payload.release()

    pipeline.refuse(event("secret.get"), PEER, ResourceExhaustedError())  # of the connection
    for request in (
        event("secret.steal"),  # of the registry
        event("secret.get", odd=1),  # of the decoder
        event("secret.get", 1),  # of the payload's bound
        event("secret.put", 4),  # of nobody, later
        event("secret.get"),  # of nobody, at once
        event("secret.get", path="none"),  # of the handler, later
        event("agent.lock"),
        event("secret.get"),  # of the gate
    ):
        await whole(request)
    assert told == [
        ("secret.get", "resource_exhausted"),
        ("secret.steal", "unsupported"),
        ("secret.get", "invalid_request"),
        ("secret.get", "invalid_request"),
        ("secret.put", "result"),
        ("secret.get", "result"),
        ("secret.get", "not_found"),
        ("agent.lock", "result"),
        ("secret.get", "locked"),
    ]
