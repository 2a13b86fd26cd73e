"""The registry: complete, and of one piece with messages, limits and errors."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from keyholt_protocol import messages, operations
from keyholt_protocol.codec import from_map, to_map
from keyholt_protocol.errors import ERRORS, InvalidRequestError
from keyholt_protocol.limits import HELLO_OPERATION, MAX_PAYLOAD
from keyholt_protocol.operations import ANY_OPERATION, OPERATIONS, SESSION_HELLO, Needs, Operation, Permission

ALL = list(OPERATIONS.values())


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: operation.name)
def test_descriptor_is_sound(operation: Operation[Any, Any]) -> None:
    """A name ``domain.verb``, a sentence, a payload where there is a limit, no error named twice."""
    assert re.fullmatch(r"[a-z]+\.[a-z]+", operation.name)
    assert operation.summary.endswith(".")
    assert operation.summary.count("\n") == 0
    assert (operation.payload is not None) == (operation.max_payload > 0)
    assert operation.max_payload <= MAX_PAYLOAD
    assert not operation.errors.keys() & ANY_OPERATION.keys()
    assert {code.wire_name for code in (*operation.errors, *ANY_OPERATION)} <= ERRORS.keys()


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: operation.name)
def test_names_follow_from_the_operation_s(operation: Operation[Any, Any]) -> None:
    """``domain.verb`` is the constant ``DOMAIN_VERB``; its messages are in the module of the domain."""
    domain, verb = operation.name.split(".")
    assert getattr(operations, f"{domain}_{verb}".upper()) is operation
    for cls, kind in ((operation.request, "Request"), (operation.result, "Result")):
        assert cls.__name__ == f"{domain.title()}{verb.title()}{kind}"
        assert cls.__module__ == f"keyholt_protocol.messages.{domain}"


def test_operations_of_the_design_are_there() -> None:
    """The names of this version; one that was given is never taken away within it."""
    assert list(OPERATIONS) == [
        "session.hello", "store.init", "store.rekey", "agent.status", "agent.unlock", "agent.lock",
        "slot.list", "slot.add", "slot.remove", "secret.put", "secret.get", "secret.list",
        "secret.history", "secret.delete", "secret.undelete", "secret.destroy",
        "secret.move", "secret.copy", "secret.purge",
    ]  # fmt: skip
    assert all(OPERATIONS[name].name == name for name in OPERATIONS)


def test_every_message_belongs_to_an_operation() -> None:
    """No message is left over, and none serves two operations."""
    used = [cls for operation in ALL for cls in (operation.request, operation.result)]
    parts = {messages.SecretInfo, messages.SecretVersionInfo, messages.SlotInfo}
    assert len(set(used)) == len(used)
    assert {*used, *parts} == {getattr(messages, name) for name in messages.__all__}


@pytest.mark.parametrize("operation", ALL, ids=lambda operation: operation.name)
def test_codec_can_carry_the_messages(operation: Operation[Any, Any]) -> None:
    """The codec knows every field type of every message, before the first request of that kind comes."""
    for cls in (operation.request, operation.result):
        if any(field.default is field.default_factory for field in dataclasses.fields(cls)):
            with pytest.raises(InvalidRequestError, match="is missing"):
                from_map(cls, {})
        else:
            assert to_map(from_map(cls, {})) == {}


def test_what_changes_the_store_is_not_simply_repeated() -> None:
    """A request that a client repeats by itself leaves the same behind done twice as once."""
    unrepeatable = {operation.name for operation in ALL if not operation.repeatable}
    assert unrepeatable == {operation.name for operation in ALL if operation.mutates} - {
        "agent.lock",
        "secret.destroy",
    }


def test_secrets_are_for_the_unlocked_agent_only() -> None:
    """Every operation on secrets needs the unlocked agent; reading needs another permission than writing."""
    for operation in ALL:
        if operation.name.startswith("secret."):
            assert operation.needs is Needs.UNLOCKED
            assert operation.permission in {Permission.LIST, Permission.READ, Permission.WRITE}
            assert (operation.permission is Permission.WRITE) == operation.mutates


def test_hello_is_the_operation_that_a_connection_waits_for() -> None:
    """The connection's constant and the registry name the same operation."""
    assert SESSION_HELLO.name == HELLO_OPERATION
    assert SESSION_HELLO.needs is Needs.NOTHING
