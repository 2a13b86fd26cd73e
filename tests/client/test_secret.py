"""A value is given out on demand, shown by nothing, and wiped at the end of its block."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt.secret import Secret
from keyholt_protocol.errors import InvalidRequestError

CANARY = "canary-7f3a"


def make(value: bytes = CANARY.encode()) -> Secret:
    """A secret with this value."""
    return Secret(bytearray(value), path="a/b", version=3, created=1, labels={"env": "prod"})


def test_it_gives_the_value_as_bytes_text_and_view() -> None:
    """The value can be had in three ways, and what is known about it in attributes."""
    secret = make()
    assert secret.bytes == secret.view.tobytes() == CANARY.encode()
    assert secret.text == CANARY
    assert (secret.path, secret.version, secret.created, secret.expires) == ("a/b", 3, 1, None)
    assert secret.labels == {"env": "prod"}
    assert len(secret) == len(CANARY)
    assert make(b"")  # an empty value is true: it is there


@given(st.binary(min_size=4, max_size=64))
def test_no_way_of_printing_shows_the_value(value: bytes) -> None:
    """repr, str and formatting tell the length, and are the same for any two values of one length."""
    secret, other = make(value), make(bytes(len(value)))
    for shown in (repr, str, lambda s: f"{s}", lambda s: f"{s!r}", lambda s: f"{[s]}", "{}".format):
        assert shown(secret) == shown(other)
    assert f"{len(value)} bytes" in repr(secret)


def test_text_that_is_none_is_refused_without_showing_it() -> None:
    """A value that is not UTF-8 is an error of the caller, whose exception chain does not hold it."""
    with pytest.raises(InvalidRequestError) as caught:
        _ = make(b"\xff\xfe" + CANARY.encode()).text
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # ``raise ... from None`` would keep one, and hide it


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy, hash, sorted])
def test_what_would_spread_or_order_it_is_refused(act: object) -> None:
    """Pickling, copying, hashing and ordering are type errors."""
    secret = make()
    with pytest.raises(TypeError):
        act([secret, secret] if act is sorted else secret)  # type: ignore[operator]


def test_equality_is_between_secrets_only() -> None:
    """Two secrets with the same value are equal; a secret equals no bytes."""
    assert make() == make()
    assert make() != make(b"other")
    assert make() != CANARY.encode()
    assert make() != CANARY


def test_leaving_with_wipes_the_memory() -> None:
    """After the block the buffer holds zeroes, views of it too, and the value cannot be read."""
    buffer = bytearray(CANARY.encode())
    with Secret(buffer, path="a", version=1, created=0) as secret:
        view = secret.view
        assert bytes(view) == CANARY.encode()
    assert buffer == bytes(len(CANARY)) == view.tobytes()
    assert "wiped" in repr(secret)
    with pytest.raises(ValueError, match="wiped"):
        _ = secret.bytes


def test_dying_wipes_the_memory() -> None:
    """A secret that nobody holds any more leaves zeroes."""
    buffer = bytearray(CANARY.encode())
    secret = Secret(buffer, path="a", version=1, created=0)
    del secret
    assert buffer == bytes(len(CANARY))


def test_the_view_is_read_only() -> None:
    """A view cannot change the value."""
    with pytest.raises(TypeError):
        make().view[0] = 0


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 200_001])
def test_wiping_zeroes_all_of_it(size: int) -> None:
    """Whatever its size: zeroes come in pieces."""
    value = bytearray(b"x" * size)
    secret = Secret(value, path="a", version=1, created=1)
    secret.wipe()
    secret.wipe()
    assert value == bytes(size)
