"""Messages: what each field may be, beyond its type, and that a message is well formed or is not."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Final

import pytest

from keyholt_protocol import messages as m
from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.limits import MAX_PAGE, MAX_TIME

MESSAGES: Final[list[type[Any]]] = [getattr(m, name) for name in m.__all__]
LABELS: Final = {str(n): "" for n in range(17)}
REFUSED: Final[list[tuple[type[Any], dict[str, Any]]]] = [
    (m.SessionHelloRequest, {"version": 1, "client": "a\nb"}),
    (m.SessionHelloRequest, {"version": 1, "client": "\ud800"}),
    (m.StoreInitRequest, {"slot": ""}),
    (m.StoreInitRequest, {"slot": "A"}),
    (m.AgentUnlockRequest, {"slot": "a/b"}),
    (m.SlotAddRequest, {"name": ""}),
    (m.SlotAddRequest, {"name": "a", "kind": "pkcs11"}),
    (m.SlotRemoveRequest, {"name": ".."}),
    (m.SecretPutRequest, {"path": ".."}),
    (m.SecretPutRequest, {"path": "a", "if_version": -1}),
    (m.SecretPutRequest, {"path": "a", "if_version": 2**31}),
    (m.SecretPutRequest, {"path": "a", "labels": {"": ""}}),
    (m.SecretPutRequest, {"path": "a", "expires": -1}),
    (m.SecretPutRequest, {"path": "a", "expires": -1}),
    (m.SecretPutRequest, {"path": "a", "expires": MAX_TIME + 1}),
    (m.SecretGetRequest, {"path": ""}),
    (m.SecretGetRequest, {"path": "a", "version": 0}),
    (m.SecretGetRequest, {"path": "a", "version": -1}),
    (m.SecretGetRequest, {"path": "a", "version": 2**31}),
    (m.SecretListRequest, {"prefix": "//"}),
    (m.SecretListRequest, {"after": ""}),
    (m.SecretListRequest, {"limit": 0}),
    (m.SecretHistoryRequest, {"path": "a//b"}),
    (m.SecretHistoryRequest, {"path": "a", "before": 0}),
    (m.SecretHistoryRequest, {"path": "a", "before": 2**31}),
    (m.SecretHistoryRequest, {"path": "a", "limit": 0}),
    (m.SecretDeleteRequest, {"path": "a/"}),
    (m.SecretUndeleteRequest, {"path": "/a"}),
    (m.SecretDestroyRequest, {"path": "a", "version": 0}),
    (m.SecretDestroyRequest, {"path": "\u200b", "version": 1}),
]
TOO_LARGE: Final[list[tuple[type[Any], dict[str, Any], int]]] = [
    (m.SessionHelloRequest, {"version": 1, "client": "x" * 129}, 128),
    (m.StoreInitRequest, {"slot": "x" * 65}, 64),
    (m.AgentUnlockRequest, {"slot": "x" * 65}, 64),
    (m.SlotAddRequest, {"name": "x" * 65}, 64),
    (m.SlotRemoveRequest, {"name": "x" * 65}, 64),
    (m.SecretGetRequest, {"path": "x" * 513}, 512),
    (m.SecretGetRequest, {"path": "é" * 257}, 512),
    (m.SecretGetRequest, {"path": "/".join("x" * 33)}, 32),
    (m.SecretListRequest, {"prefix": "x" * 513}, 512),
    (m.SecretListRequest, {"prefix": "x/" * 32}, 32),
    (m.SecretListRequest, {"after": "x" * 513}, 512),
    (m.SecretListRequest, {"limit": 201}, 200),
    (m.SecretHistoryRequest, {"path": "a", "limit": 201}, 200),
    (m.SecretPutRequest, {"path": "a", "labels": LABELS}, 16),
    (m.SecretPutRequest, {"path": "a", "labels": {"k" * 65: ""}}, 64),
    (m.SecretPutRequest, {"path": "a", "labels": {"k": "v" * 257}}, 256),
]
ACCEPTED: Final[list[tuple[type[Any], dict[str, Any]]]] = [
    (m.SessionHelloRequest, {"version": 1, "client": "é" * 128}),
    (m.StoreInitRequest, {}),
    (m.SlotAddRequest, {"name": "a", "replace": True}),
    (m.SecretPutRequest, {"path": "a", "if_version": 0, "expires": MAX_TIME}),
    (m.SecretPutRequest, {"path": "a", "if_version": 2**31 - 1}),
    (m.SecretGetRequest, {"path": "a", "version": 2**31 - 1}),
    (m.SecretListRequest, {"prefix": "prod/", "after": "prod/a", "limit": MAX_PAGE}),
    (m.SecretHistoryRequest, {"path": "a", "before": 1, "limit": 1}),
]


@pytest.mark.parametrize("cls, fields", REFUSED, ids=repr)
def test_malformed_message_cannot_be_made(cls: type[Any], fields: dict[str, Any]) -> None:
    """A value over a limit or outside its range is refused as the message is made, on either side."""
    with pytest.raises(InvalidRequestError) as caught:
        cls(**fields)
    assert str(caught.value).isprintable()
    assert caught.value.details["field"] in fields


@pytest.mark.parametrize("cls, fields, limit", TOO_LARGE, ids=repr)
def test_limit_on_a_size_or_a_number_is_told(cls: type[Any], fields: dict[str, Any], limit: int) -> None:
    """Whatever is too long, or too many, is ``too_large``, with the field and what is allowed of it."""
    with pytest.raises(TooLargeError) as caught:
        cls(**fields)
    *_, field = fields
    assert caught.value.details == {"field": field, "limit": limit}


@pytest.mark.parametrize("cls, fields", ACCEPTED, ids=repr)
def test_limits_themselves_are_allowed(cls: type[Any], fields: dict[str, Any]) -> None:
    """The outermost values that the rules allow."""
    cls(**fields)


@pytest.mark.parametrize("cls", [cls for cls in MESSAGES if cls.__name__.endswith("Request")])
def test_every_name_in_a_request_is_checked(cls: type[Any]) -> None:
    """A request with a path or a keyslot's name refuses a wrong one, whichever field it is in."""
    good: dict[str, Any] = {"path": "a", "to": "b", "name": "a", "slot": "a", "version": 1}
    known = {field.name for field in dataclasses.fields(cls)}
    fields = {name: value for name, value in good.items() if name in known}
    cls(**fields)
    for name in known & {"path", "to", "name", "slot", "after"}:
        with pytest.raises(InvalidRequestError):
            cls(**{**fields, name: "../x\n"})


@pytest.mark.parametrize("cls", MESSAGES)
def test_message_is_frozen_documented_and_without_bytes(cls: type[Any]) -> None:
    """Messages cannot be changed, say what they are, and have no field in which a secret could travel."""
    assert cls.__dataclass_params__.frozen
    assert "__slots__" in vars(cls)
    assert cls.__doc__ or cls.__name__.endswith("Result")
    for hint in typing.get_type_hints(cls).values():
        parts = {hint, *typing.get_args(hint)}
        kinds = parts | {typing.get_origin(part) for part in parts}
        assert not kinds & {bytes, bytearray, memoryview, float, object, Any, dict, list}
        assert kinds & {str, int, bool, tuple, Mapping}
