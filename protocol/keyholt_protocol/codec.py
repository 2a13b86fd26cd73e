"""Headers to msgpack and back, and maps to the dataclasses of ``messages``, strictly.

- Refused, never repaired: duplicate keys, keys that are not text, extension types, trailing bytes, unknown or
  missing fields, a value of another type (``True`` is not ``1``), invalid UTF-8, a surrogate. Unknown fields
  of the messages that say so are ignored.
- Sizes and element counts are bounded before anything is built.
- A field that equals its default is left out when written, and takes it when absent. Nil is no value of any
  field: what there is none of is absent.
- An integer may be written as the float that equals it, within the range in which a float can tell each one.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, Union, cast, get_args, get_origin

import msgpack

from keyholt_protocol.errors import InvalidRequestError, LocalProtocolError, TooLargeError
from keyholt_protocol.limits import MAX_ENTRIES, MAX_EXACT_INTEGER, MAX_RESPONSE_HEADER

__all__ = ["as_integer", "from_map", "pack_header", "to_map", "unpack_header"]

Message = TypeVar("Message")
_Check = Callable[[object, str], object]
_MISSING: Final = dataclasses.MISSING

_USUAL_HEADER: Final = 1024
"""Bytes that a packer sets aside at first; most headers are smaller, and its own choice is 256 KiB."""


def pack_header(header: Mapping[str, object]) -> bytes:
    """One msgpack map; no secret may be in it, for packing leaves copies in freed memory.

    Raises:
        LocalProtocolError: something in it has no form on the wire, such as text with a lone surrogate.
    """
    try:
        # A packer of one's own: a shared one would mix the bytes of two threads that interrupt each other.
        return msgpack.Packer(buf_size=_USUAL_HEADER).pack(header)
    except (ValueError, TypeError, OverflowError) as error:
        raise LocalProtocolError(f"a header cannot be encoded ({type(error).__name__})") from None


def unpack_header(data: memoryview | bytes | bytearray) -> dict[str, object]:
    """The map that ``data`` encodes, whole and alone.

    Raises:
        InvalidRequestError: ``data`` is anything else; the message never repeats it.
        TooLargeError: a map or an array has too many entries.
    """
    try:
        header: object = msgpack.unpackb(
            data,
            object_pairs_hook=_map_without_duplicates,
            ext_hook=_refuse_extension,
            max_str_len=MAX_RESPONSE_HEADER,
            max_bin_len=0,
            max_ext_len=0,
            max_map_len=MAX_ENTRIES,
            max_array_len=MAX_ENTRIES,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        if f"_len({MAX_ENTRIES})" in str(error):  # only its words tell which of the limits it was
            raise TooLargeError(
                f"a map or an array of the header has more than {MAX_ENTRIES} entries",
                details={"field": "header", "limit": MAX_ENTRIES},
            ) from None
        raise _not_a_header(f"the header is not valid msgpack ({type(error).__name__})") from None
    if type(header) is not dict:
        raise _not_a_header("the header is not a map")
    return cast("dict[str, object]", header)


def as_integer(value: object) -> int | None:
    """The integer that a decoded value stands for, if it does.

    JavaScript has one type of numbers, and its encoders write those that need more than 32 bits as floats.
    """
    if type(value) is int:  # not isinstance: True is an int to Python, not to the wire
        return value
    if type(value) is float and value.is_integer() and abs(value) <= MAX_EXACT_INTEGER:
        return int(value)
    return None


def from_map(cls: type[Message], fields: Mapping[str, object]) -> Message:
    """An instance of the dataclass ``cls`` from a decoded map.

    Raises:
        InvalidRequestError: a field is unknown, missing, of another type, or refused by ``cls`` itself.
    """
    _, checks, required = _FIELDS.get(cls) or _fields_of(cls)
    values: dict[str, object] = {}
    for name, value in fields.items():
        check = checks.get(name)
        if check is None:
            if getattr(cls, "ignores_unknown", False):
                continue
            raise InvalidRequestError(
                f"{name[:64]!r} is not a field here; known are: {', '.join(checks) or 'none'}",
                details={"field": name[:64]},
            )
        values[name] = check(value, name)
    for name in required:
        if name not in values:
            raise InvalidRequestError(f"the field {name!r} is missing", details={"field": name})
    return cls(**values)


def to_map(message: object) -> dict[str, object]:
    """The map of a dataclass's fields, those that equal their default left out."""
    result: dict[str, object] = {}
    for name, (_, plain, required, default) in _fields_of(type(message)).all.items():
        value = getattr(message, name)
        if required or (value is not default and value != default):
            result[name] = value if plain is None else plain(value)
    return result


class _Field(NamedTuple):
    """How a field is checked, how it is written (``None``: as it is), and what it is when absent."""

    check: _Check
    plain: Callable[[Any], object] | None
    required: bool
    default: object


class _Fields(NamedTuple):
    """The fields of a message: all by name, and what reading needs of them."""

    all: dict[str, _Field]
    checks: dict[str, _Check]
    required: tuple[str, ...]


_FIELDS: Final[dict[type[Any], _Fields]] = {}
"""What is known of each message type, found out when it is first met."""


def _fields_of(cls: type[Any]) -> _Fields:
    known = _FIELDS.get(cls)
    if known is None:
        fields = _inspect_fields(cls)
        checks = {name: field.check for name, field in fields.items()}
        required = tuple(name for name, field in fields.items() if field.required)
        known = _FIELDS[cls] = _Fields(fields, checks, required)
    return known


def _inspect_fields(cls: type[Any]) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    result: dict[str, _Field] = {}
    for field in dataclasses.fields(cls):
        default: object = field.default
        if field.default_factory is not _MISSING:
            default = field.default_factory()
        required = default is _MISSING
        hint = hints[field.name]
        if type(None) in get_args(hint) and default is not None:
            raise TypeError(f"{field.name} of {cls.__name__} may be none, and so must be none when absent")
        result[field.name] = _Field(_check_for(hint), _plain_for(hint), required, default)
    return result


def _check_for(hint: object) -> _Check:
    """How a value of the annotated type is checked; the annotations of ``messages`` use no others."""
    if hint is str:
        return _check_text
    if hint is int:
        return _check_integer
    if hint is bool:
        return _check_boolean
    if get_origin(hint) in {Union, types.UnionType}:
        inner, none = get_args(hint)
        if none is types.NoneType:
            return _check_for(inner)  # what is none is absent, and an absent field is not checked
    if get_origin(hint) is tuple:
        return functools.partial(_check_array, _check_for(get_args(hint)[0]))
    if get_origin(hint) is Mapping:
        return _check_text_map
    if dataclasses.is_dataclass(hint):
        return functools.partial(_check_message, cast("type[object]", hint))
    raise TypeError(f"messages may not have fields of type {hint}")


def _plain_for(hint: object) -> Callable[[Any], object] | None:
    if get_origin(hint) is tuple:
        inner = _plain_for(get_args(hint)[0])
        return list if inner is None else lambda items: [inner(item) for item in items]
    if get_origin(hint) is Mapping:
        return dict
    return to_map if dataclasses.is_dataclass(hint) else None


def _check_integer(value: object, name: str) -> object:
    if type(value) is int:  # as nearly always
        return value
    integer = as_integer(value)
    if integer is None:
        raise _wrong_type(name, "an integer", value)
    return integer


def _check_boolean(value: object, name: str) -> object:
    if type(value) is not bool:
        raise _wrong_type(name, "true or false", value)
    return value


def _check_text(value: object, name: str) -> object:
    if type(value) is not str:
        raise _wrong_type(name, "text", value)
    return value


def _check_array(inner: _Check, value: object, name: str) -> object:
    if type(value) is not list:
        raise _wrong_type(name, "an array", value)
    return tuple(inner(item, name) for item in cast("list[object]", value))


def _check_text_map(value: object, name: str) -> object:
    if type(value) is not dict:
        raise _wrong_type(name, "a map of text to text", value)
    entries = cast("dict[str, object]", value)
    for text in entries.values():
        _check_text(text, name)
    return types.MappingProxyType(entries)


def _check_message(cls: type[object], value: object, name: str) -> object:
    if type(value) is not dict:
        raise _wrong_type(name, "a map", value)
    return from_map(cls, cast("dict[str, object]", value))


def _wrong_type(name: str, expected: str, value: object) -> InvalidRequestError:
    nil = ", not nil: what there is none of is left out" if value is None else ""
    return InvalidRequestError(f"the field {name!r} must be {expected}{nil}", details={"field": name})


def _map_without_duplicates(pairs: list[tuple[object, object]]) -> dict[object, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _not_a_header("a map has the same key twice")
    if b"" in result:  # msgpack lets through text and binary keys only, and binary of no length only
        raise _not_a_header("a map has a key that is not text")
    return result


def _refuse_extension(code: int, _data: bytes) -> object:
    raise _not_a_header(f"the extension type {code} is not allowed")


def _not_a_header(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, details={"field": "header"})
