"""The codec of messages: each survives, and no field takes what is not its own."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given, settings

from keyholt_protocol import codec, messages
from keyholt_protocol.codec import from_map, pack_header, to_map, unpack_header
from keyholt_protocol.errors import InvalidRequestError, LocalProtocolError
from tests.protocol.wire import messages_of

MESSAGES: Final = [getattr(messages, name) for name in messages.__all__]


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_message_survives(cls: type[Any]) -> None:
    """A message, written and read again, is the same; fields that equal their default are not written."""

    @settings(max_examples=30)
    @given(message=messages_of(cls))
    def check(message: Any) -> None:
        plain = to_map(message)
        decoded = unpack_header(pack_header(plain))
        assert decoded == plain
        assert from_map(cls, decoded) == message
        for field in dataclasses.fields(cls):
            if field.default is not dataclasses.MISSING:
                assert (field.name in plain) == (getattr(message, field.name) != field.default)

    check()


WRONG: Final[list[object]] = [
    True,
    False,
    0,
    1,
    -1,
    2**64 - 1,
    1.5,
    2.0**53,
    float("inf"),
    float("nan"),
    None,
    "",
    "x",
    b"",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
]


def accepts(hint: Any, value: object) -> bool:
    """Whether a decoded value has the annotated type, bool and int kept apart."""
    arguments = typing.get_args(hint)
    if type(None) in arguments:
        return accepts(arguments[0], value)
    if typing.get_origin(hint) is tuple:
        return type(value) is list and all(accepts(arguments[0], item) for item in value)
    if typing.get_origin(hint) is Mapping:
        return type(value) is dict and all(type(item) is str for item in value.values())
    return type(value) is hint


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_value_of_another_type_is_refused(cls: type[Any]) -> None:
    """Each field of each message refuses every value that has not exactly its type; True is not 1."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        for value in WRONG:
            if not accepts(hints[field.name], value):
                with pytest.raises(InvalidRequestError, match=f"'{field.name}' must be"):
                    from_map(cls, {field.name: value})


def test_nil_is_no_value_of_any_field() -> None:
    """What there is none of is left out, and the refusal says so; a result holds none either."""
    with pytest.raises(InvalidRequestError, match=r"'version' must be an integer, not nil: .* is left out"):
        from_map(messages.SecretGetRequest, {"path": "a", "version": None})
    with pytest.raises(InvalidRequestError, match="not nil"):
        from_map(messages.SecretPutRequest, {"path": "a", "labels": {"k": None}})
    assert to_map(messages.SecretGetRequest(path="a", version=None)) == {"path": "a"}


def test_integer_may_be_written_as_a_float() -> None:
    """JavaScript's encoders do so beyond 32 bits; what a float cannot tell from its neighbours is refused."""
    for value in (5.0, float(2**32 + 1), float(2**53 - 1), -0.0, -5.0):
        result = from_map(messages.SecretPutResult, {"version": 1, "created": value})
        assert result.created == value
        assert type(result.created) is int
    for value in (5.5, 2.0**53, -(2.0**53), float("inf"), float("nan")):
        with pytest.raises(InvalidRequestError, match="'created' must be an integer"):
            from_map(messages.SecretPutResult, {"version": 1, "created": value})


@pytest.mark.parametrize(
    "cls", [cls for cls in MESSAGES if not hasattr(cls, "ignores_unknown")], ids=lambda cls: cls.__name__
)
def test_unknown_and_missing_fields_are_refused(cls: type[Any]) -> None:
    """A field too many is named with those that are known; a required one that is absent is named."""
    with pytest.raises(InvalidRequestError, match="'pathh' is not a field here; known are: "):
        from_map(cls, {"pathh": 1})
    for field in dataclasses.fields(cls):
        if field.default is field.default_factory is dataclasses.MISSING:
            with pytest.raises(InvalidRequestError, match="is missing"):
                from_map(cls, {})
            break
    else:
        assert from_map(cls, {}) == cls()


def test_unknown_fields_of_a_greeting_are_ignored() -> None:
    """Of any type, in both directions: the two sides have yet to find out what they have in common."""
    newer: dict[str, object] = {"since": 2.5, "rooms": [None, {}], "features": ["hand-out"]}
    assert from_map(messages.SessionHelloRequest, {"version": 1, **newer}) == messages.SessionHelloRequest(
        version=1
    )
    known = {"version": 1, "agent": "a", "max_value": 1, "max_in_flight": 1}
    greeting = from_map(messages.SessionHelloResult, {**known, **newer})
    assert greeting.features == ("hand-out",)
    assert from_map(messages.SessionHelloResult, known).features == ()
    for cls in (messages.SessionHelloRequest, messages.SessionHelloResult):
        with pytest.raises(InvalidRequestError, match="'version' is missing"):
            from_map(cls, newer)


def test_check_of_types_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that asks isinstance takes True for 1, and the check above sees it."""

    def lenient(value: object, name: str) -> object:
        if not isinstance(value, int):
            raise InvalidRequestError(f"the field {name!r} is wrong")
        return value

    monkeypatch.setattr(codec, "_check_integer", lenient)
    monkeypatch.setattr(codec, "_FIELDS", {})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_value_of_another_type_is_refused(messages.SecretGetRequest)


def test_long_unknown_field_is_not_repeated_whole() -> None:
    """An error message stays short whatever the field's name, and shows no control character."""
    with pytest.raises(InvalidRequestError) as caught:
        from_map(messages.SecretGetRequest, {"\x1b[2J" + "x" * 60_000: 1})
    assert len(str(caught.value)) < 200
    assert "\x1b" not in str(caught.value)


def test_nested_message_names_the_wrong_field() -> None:
    """A wrong field inside an array of messages is found."""
    with pytest.raises(InvalidRequestError, match="'kind' must be text"):
        from_map(messages.SlotListResult, {"slots": [{"name": "a", "kind": 1, "created": 1, "kdf": ""}]})
    with pytest.raises(InvalidRequestError, match="'slots' must be a map"):
        from_map(messages.SlotListResult, {"slots": ["a"]})


def test_labels_cannot_be_changed_after_the_check() -> None:
    """Labels that were decoded are read-only, as the message is."""
    labels = from_map(messages.SecretPutRequest, {"path": "a", "labels": {"k": "v"}}).labels
    assert type(labels) is types.MappingProxyType


@pytest.mark.parametrize("value", ["\ud800", 2**64, -(2**63) - 1, object(), {1, 2}])
def test_what_has_no_form_on_the_wire_is_misuse(value: object) -> None:
    """The sender learns it at once, and by one kind of error."""
    with pytest.raises(LocalProtocolError):
        pack_header({"a": value})


def test_field_types_other_than_the_wire_s_are_found_out() -> None:
    """A message type with a field that the wire cannot carry fails when it is first used."""

    @dataclasses.dataclass
    class Odd:
        value: bytes

    Odd.__annotations__["value"] = bytes
    with pytest.raises(TypeError, match="may not have fields"):
        from_map(Odd, {})


def test_field_without_a_value_is_found_out() -> None:
    """A field that may be none has to be none when it is absent: nothing on the wire could say so."""

    @dataclasses.dataclass
    class Odd:
        value: int | None

    Odd.__annotations__["value"] = int | None
    with pytest.raises(TypeError, match="must be none when absent"):
        from_map(Odd, {})
