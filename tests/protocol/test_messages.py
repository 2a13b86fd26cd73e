"""Messages: what each field may be, beyond its type, and that a message is well formed or is not."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Final

import pytest

from keyholt_protocol import messages as m
from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.limits import MAX_PAGE, MAX_TIME

MESSAGES: Final[list[type[Any]]] = [getattr(m, name) for name in m.__all__]
LABELS: Final = {str(n): "" for n in range(17)}
REFUSED: Final[list[tuple[type[Any], dict[str, Any]]]] = [
    (m.HelloRequest, {"version": 1, "client": "x" * 129}),
    (m.HelloRequest, {"version": 1, "client": "a\nb"}),
    (m.HelloRequest, {"version": 1, "client": "\ud800"}),
    (m.InitRequest, {"slot": ""}),
    (m.InitRequest, {"slot": "A"}),
    (m.UnlockRequest, {"slot": "a/b"}),
    (m.SlotAddRequest, {"name": "", "existing_size": 1}),
    (m.SlotAddRequest, {"name": "a", "existing_size": 0}),
    (m.SlotAddRequest, {"name": "a", "existing_size": -1}),
    (m.SlotAddRequest, {"name": "a", "existing_size": 4097}),
    (m.SlotAddRequest, {"name": "a", "existing_size": 1, "kind": "pkcs11"}),
    (m.SlotRemoveRequest, {"name": ".."}),
    (m.PutRequest, {"path": ".."}),
    (m.PutRequest, {"path": "a", "if_version": -1}),
    (m.PutRequest, {"path": "a", "if_version": 2**31}),
    (m.PutRequest, {"path": "a", "labels": LABELS}),
    (m.PutRequest, {"path": "a", "labels": {"": ""}}),
    (m.PutRequest, {"path": "a", "expires": 0}),
    (m.PutRequest, {"path": "a", "expires": -1}),
    (m.PutRequest, {"path": "a", "expires": MAX_TIME + 1}),
    (m.GetRequest, {"path": ""}),
    (m.GetRequest, {"path": "a", "version": 0}),
    (m.GetRequest, {"path": "a", "version": -1}),
    (m.GetRequest, {"path": "a", "version": 2**31}),
    (m.ListRequest, {"prefix": "//"}),
    (m.ListRequest, {"after": ""}),
    (m.ListRequest, {"limit": 0}),
    (m.ListRequest, {"limit": 501}),
    (m.HistoryRequest, {"path": "a//b"}),
    (m.HistoryRequest, {"path": "a", "before": 0}),
    (m.HistoryRequest, {"path": "a", "before": 2**31}),
    (m.HistoryRequest, {"path": "a", "limit": 0}),
    (m.DeleteRequest, {"path": "a/"}),
    (m.UndeleteRequest, {"path": "/a"}),
    (m.DestroyRequest, {"path": "a", "version": 0}),
    (m.DestroyRequest, {"path": "\u200b", "version": 1}),
]
ACCEPTED: Final[list[tuple[type[Any], dict[str, Any]]]] = [
    (m.HelloRequest, {"version": 1, "client": "é" * 128}),
    (m.InitRequest, {}),
    (m.SlotAddRequest, {"name": "a", "existing_size": 4096, "replace": True}),
    (m.PutRequest, {"path": "a", "if_version": 0, "expires": MAX_TIME}),
    (m.PutRequest, {"path": "a", "if_version": 2**31 - 1}),
    (m.GetRequest, {"path": "a", "version": 2**31 - 1}),
    (m.ListRequest, {"prefix": "prod/", "after": "prod/a", "limit": MAX_PAGE}),
    (m.HistoryRequest, {"path": "a", "before": 1, "limit": 1}),
]


@pytest.mark.parametrize("cls, fields", REFUSED, ids=repr)
def test_malformed_message_cannot_be_made(cls: type[Any], fields: dict[str, Any]) -> None:
    """A value over a limit or outside its range is refused as the message is made, on either side."""
    with pytest.raises(InvalidRequestError) as caught:
        cls(**fields)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("cls, fields", ACCEPTED, ids=repr)
def test_limits_themselves_are_allowed(cls: type[Any], fields: dict[str, Any]) -> None:
    """The outermost values that the rules allow."""
    cls(**fields)


@pytest.mark.parametrize("cls", [cls for cls in MESSAGES if cls.__name__.endswith("Request")])
def test_every_name_in_a_request_is_checked(cls: type[Any]) -> None:
    """A request with a path or a keyslot's name refuses a wrong one, whichever field it is in."""
    good: dict[str, Any] = {"path": "a", "name": "a", "slot": "a", "version": 1, "existing_size": 1}
    known = {field.name for field in dataclasses.fields(cls)}
    fields = {name: value for name, value in good.items() if name in known}
    cls(**fields)
    for name in known & {"path", "name", "slot", "after"}:
        with pytest.raises(InvalidRequestError):
            cls(**{**fields, name: "../x\n"})


@pytest.mark.parametrize("cls", MESSAGES)
def test_message_is_frozen_documented_and_without_bytes(cls: type[Any]) -> None:
    """Messages cannot be changed, say what they are, and have no field in which a secret could travel."""
    assert cls.__dataclass_params__.frozen
    assert "__slots__" in vars(cls)
    assert cls.__doc__ or cls.__name__.endswith("Result")
    for hint in typing.get_type_hints(cls).values():
        kinds = {hint, *typing.get_args(hint), typing.get_origin(hint)}
        assert not kinds & {bytes, bytearray, memoryview, float, object, Any, dict, list}
        assert kinds & {str, int, bool, tuple, Mapping}
