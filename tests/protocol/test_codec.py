"""The codec: every message survives, and nothing that is not a message gets in."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
import tracemalloc
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyholt_protocol import codec, messages
from keyholt_protocol.codec import from_map, pack_header, to_map, unpack_header
from keyholt_protocol.errors import InvalidRequestError, LocalProtocolError, TooLargeError
from keyholt_protocol.limits import MAX_ENTRIES, MAX_REQUEST_HEADER, MAX_RESPONSE_HEADER
from tests.protocol.wire import RefusedError, decode_model, messages_of

MESSAGES: Final = [getattr(messages, name) for name in messages.__all__]
GET: Final = {"id": 1, "op": "secret.get", "args": {"path": "a/b", "version": 7}}
Decode = Callable[[bytes], dict[str, object]]

HOSTILE: Final = {
    "empty": b"",
    "text": b"\xa1a",
    "array": b"\x90",
    "number": b"\x01",
    "nothing": b"\xc0",
    "never used": b"\xc1",
    "trailing byte": b"\x80\x00",
    "second map": b"\x80\x80",
    "truncated map": b"\x81\xa1a",
    "truncated text": b"\x81\xa1a\xa5abc",
    "truncated number": b"\x81\xa1a\xcd\x01",
    "duplicate key": b"\x82\xa1a\x01\xa1a\x02",
    "duplicate key in a map": b"\x81\xa1x\x82\xa1a\x01\xa1a\x01",
    "duplicate key in an array": b"\x81\xa1x\x91\x82\xa1a\x01\xa1a\x01",
    "duplicate key, written differently": b"\x82\xa1a\x01\xd9\x01a\x02",
    "duplicate key, long": b"\xde\x00\x03\xa1a\x01\xa1b\x01\xa1a\x01",
    "key number": b"\x81\x01\x01",
    "key true": b"\x81\xc3\x01",
    "key nothing": b"\x81\xc0\x01",
    "key float": b"\x81\xcb" + bytes(8) + b"\x01",
    "key empty bytes": b"\x81\xc4\x00\x01",
    "key bytes": b"\x81\xc4\x01a\x01",
    "key array": b"\x81\x90\x01",
    "key map": b"\x81\x80\x01",
    "bytes": b"\x81\xa1a\xc4\x01a",
    "bytes, announced huge": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "ext": b"\x81\xa1a\xd4\x05a",
    "ext of no bytes": b"\x81\xa1a\xc7\x00\x05",
    "timestamp": b"\x81\xa1a\xd6\xff\x00\x00\x00\x01",
    "timestamp of no bytes": b"\x81\xa1a\xc7\x00\xff",
    "ext, announced huge": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
    "surrogate": b"\x81\xa1a\xa3\xed\xa0\x80",
    "surrogate in a key": b"\x81\xa3\xed\xa0\x80\x01",
    "overlong": b"\x81\xa1a\xa2\xc0\x80",
    "cut character": b"\x81\xa1a\xa1\xc3",
    "beyond Unicode": b"\x81\xa1a\xa4\xf4\x90\x80\x80",
    "text, announced huge": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "array, announced huge": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "map, announced huge": b"\xdf\xff\xff\xff\xff",
    "one array element too many": b"\x81\xa1a\xdc\x01\x01" + bytes(MAX_ENTRIES + 1),
    "deep arrays": b"\x81\xa1a" + b"\x91" * 8_000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 2_700 + b"\xc0",
    "deep arrays announcing many": b"\x81\xa1a" + b"\xdc\x01\x00" * 2_700,
}


TOO_MANY: Final = {"array, announced huge", "map, announced huge", "one array element too many"}
Refusal: Final = (InvalidRequestError, TooLargeError)


def check_refused(decode: Decode, name: str, kind: Callable[[bytes], typing.Any] = bytes) -> None:
    """The bytes are refused as what they are, and the message does not repeat them."""
    with pytest.raises(Refusal) as caught:
        decode(kind(HOSTILE[name]))
    assert type(caught.value) is (TooLargeError if name in TOO_MANY else InvalidRequestError)
    assert caught.value.details["field"] == "header"
    assert len(str(caught.value)) < 100


def naive_decode(data: bytes) -> dict[str, object]:
    """A planted bug: msgpack as it comes."""
    try:
        return typing.cast("dict[str, object]", msgpack.unpackb(data))
    except (ValueError, msgpack.UnpackException):
        raise InvalidRequestError from None


def agrees_with_model(decode: Decode, data: bytes) -> bool:
    """Whether the decoder and the model take the bytes for the same, or both refuse them."""
    try:
        expected = repr(decode_model(data))
    except RefusedError:
        expected = "refused"
    try:
        return repr(decode(data)) == expected
    except Refusal:
        return expected == "refused"


def mutations(seed: int, count: int) -> typing.Iterator[bytes]:
    """Headers with a few bytes changed, dropped or put in, and plain random bytes, by turns."""
    dice = random.Random(seed)
    samples = [
        pack_header(GET),
        pack_header({"a": [1, 2.5, True, None, {"b": "é" * 40}], "c": -5, "d": 2**63}),
    ]
    samples += [
        b"\x81\xa1t" + ext
        for ext in (b"\xd6\xff\0\0\0\1", b"\xc7\x03\x05abc", b"\xc4\x02ab", b"\xca\x7f\xc0\0\0")
    ]
    for turn in range(count):
        data = bytearray(dice.choice(samples) if turn % 4 else dice.randbytes(dice.randrange(40)))
        for _ in range(dice.randint(1, 4) if turn % 4 else 0):
            place = dice.randrange(len(data) + 1)
            data[place : place + dice.randrange(3)] = bytes(
                dice.choice([dice.randrange(256), dice.randrange(0xC0, 0xE0), 0x80, 0x81])
                for _ in range(dice.randrange(3))
            )
        yield bytes(data)


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


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header_is_refused(name: str) -> None:
    """Whatever is no single clean map is an invalid request, from any kind of buffer."""
    for kind in (bytes, bytearray, memoryview):
        check_refused(unpack_header, name, kind)


@pytest.mark.parametrize("name", ["duplicate key", "duplicate key in an array", "ext", "bytes", "timestamp"])
def test_check_of_hostile_headers_finds_a_planted_bug(name: str) -> None:
    """Plain msgpack takes these in silence, and the check says so."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_refused(naive_decode, name)


def test_duplicate_key_is_refused_at_every_depth() -> None:
    """However deep a key stands twice, the header is refused; standing once, it is taken."""
    once, twice = b"\x82\xa1a\x01\xa1b\x02", b"\x82\xa1a\x01\xa1a\x02"
    for depth in range(1, 200):
        wrap = b"".join(b"\x81\xa1x" if level % 2 == 0 else b"\x91" for level in range(depth))
        assert unpack_header(wrap + once)
        with pytest.raises(InvalidRequestError, match="same key twice"):
            unpack_header(wrap + twice)


def test_only_refusals_come_out_of_a_hundred_thousand_mutations() -> None:
    """No bytes make the decoder raise anything else."""
    taken = 0
    for data in mutations(1, 100_000):
        try:
            assert type(unpack_header(data)) is dict
            taken += 1
        except Refusal:
            pass
    assert 1000 < taken < 99_000  # both ways out were walked


def test_decoder_agrees_with_the_model() -> None:
    """On mutated headers, and on all hostile ones that a recursive model can read, both decide the same."""
    assert all(agrees_with_model(unpack_header, data) for data in mutations(2, 20_000))
    assert all(agrees_with_model(unpack_header, data) for name, data in HOSTILE.items() if "deep" not in name)


def test_comparison_finds_a_planted_bug() -> None:
    """The comparison with the model is not blind."""
    assert not all(agrees_with_model(naive_decode, data) for data in mutations(2, 20_000))
    assert not agrees_with_model(naive_decode, HOSTILE["duplicate key"])


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_agree_with_the_model(data: bytes) -> None:
    """Hypothesis looks for bytes on which decoder and model differ."""
    assert agrees_with_model(unpack_header, data)
    assert agrees_with_model(unpack_header, b"\x81\xa1a" + data)


def test_decoder_without_the_extension_module_refuses_the_same() -> None:
    """Where msgpack falls back to Python, the same bytes are refused with the same error."""
    program = (
        "from tests.protocol import test_codec as t\n"
        "import msgpack.fallback\n"
        "assert t.msgpack.unpackb is msgpack.fallback.unpackb\n"
        "for name in t.HOSTILE: t.check_refused(t.unpack_header, name)\n"
        "assert all(t.agrees_with_model(t.unpack_header, data) for data in t.mutations(3, 2000))\n"
        "assert t.unpack_header(t.pack_header(t.GET)) == t.GET\n"
    )
    environment = {
        **os.environ,
        "MSGPACK_PUREPYTHON": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


def costly_header(name: str, size: int) -> bytes:
    """A header of nearly ``size`` bytes that is made to cost its reader much."""
    leaf = {"small arrays": b"\x90", "small maps": b"\x80", "maps of one": b"\x81\xa0\x80"}.get(name)
    if leaf is not None:
        inner = b"\xdc\x00\xfa" + leaf * 250
        count = (size - 6) // len(inner)
        return b"\x81\xa1a\xdc" + count.to_bytes(2, "big") + inner * count
    if name == "arrays announced":
        return b"\x81\xa1a" + b"\xdc\x01\x00" * ((size - 3) // 3)
    if name == "maps announced":
        return b"\x81\xa1a" + b"\xde\x01\x00\xa1a" * ((size - 3) // 5)
    if name == "wide text":
        text = b"\xf0\x9f\x98\x80" * (size // 4 - 2)
        return b"\x81\xa1a\xdb" + len(text).to_bytes(4, "big") + text
    key = size // MAX_ENTRIES - 4
    return b"\xde\x01\x00" + b"".join(b"\xd9%c%0*d\x80" % (key, key, n) for n in range(MAX_ENTRIES))


@pytest.mark.parametrize("limit, most", [(MAX_REQUEST_HEADER, 2.5), (MAX_RESPONSE_HEADER, 6)])
@pytest.mark.parametrize(
    "name",
    [
        "arrays announced",
        "maps announced",
        "small arrays",
        "small maps",
        "maps of one",
        "long keys",
        "wide text",
    ],
)
def test_memory_of_a_hostile_header_is_bounded(name: str, limit: int, most: float) -> None:
    """No request's header costs more than 2.5 MiB while it is decoded, no response's more than 6."""
    data = costly_header(name, limit)
    assert limit * 0.9 < len(data) <= limit
    assert peak_of(data) < most * 2**20


def peak_of(data: bytes) -> int:
    """The most memory that is taken while a header is decoded, of which nothing may be left."""
    tracemalloc.start()
    try:
        try:
            unpack_header(data)
        except Refusal:
            pass
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 2**19
    return peak


def test_measure_of_memory_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were containers taken for as long as they say they are, the measure would show it."""
    monkeypatch.setattr(codec, "MAX_ENTRIES", 2**16)
    data = costly_header("arrays announced", MAX_REQUEST_HEADER).replace(b"\x01\x00", b"\xff\xff")
    assert peak_of(data) > 2.5 * 2**20


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
