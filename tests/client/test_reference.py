"""References: every path can be written as one, and any other text is refused with the form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt.reference import is_reference, parse, write
from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.limits import MAX_VERSION
from keyholt_protocol.names import check_path

paths = st.text(min_size=1, max_size=40)
fields = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(paths, st.none() | st.integers(1, MAX_VERSION), fields)
def test_every_allowed_path_can_be_written_and_read(
    path: str, version: int | None, field: str | None
) -> None:
    """A reference to any path that the protocol allows reads as that path, version and field."""
    try:
        check_path(path)
    except InvalidRequestError:
        return
    assert parse(write(path, version, field)) == (path, version, field)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_named_error(text: str) -> None:
    """Reading never ends in another exception; what reads, writes as the same meaning."""
    try:
        named = parse(f"keyholt://{text}")
    except InvalidRequestError:
        return
    assert parse(write(*named)) == named


@pytest.mark.parametrize(
    "text,field",
    [
        ("keyholt://a#user", "user"),
        ("keyholt://a?version=2#user", "user"),
        ("keyholt://a#/users/0/name", "/users/0/name"),
        ("keyholt://a#pass%20word%25%C3%A9", "pass word%\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("keyholt://a#b#c", "b#c"),
        ("keyholt://a#b?version=3", "b?version=3"),
    ],
)
def test_a_field_is_percent_decoded(text: str, field: str) -> None:
    """What follows the first ``#`` is the field; what looks like a version in it is part of it."""
    assert parse(text) == ("a", 2 if "=2#" in text else None, field)


@pytest.mark.parametrize(
    "text",
    [
        "keyholt://",
        "keyholt://?version=1",
        "keyholt://a?",
        "keyholt://a?version=",
        "keyholt://a?version=x",
        "keyholt://a?version=-1",
        "keyholt://a?version=99999999999",
        "keyholt://a?v=1",
        "keyholt://a#",
        "keyholt://#b",
        "keyholt://a#%",
        "keyholt://a#%4",
        "keyholt://a#%4g",
        "keyholt://a#% 4",
        "keyholt://a#%+4",
        "keyholt://a#%ff",
        "keyholt://a#\ud800",
        "keyholt://a?version=x#b",
        "https://a",
        "a",
    ],
)
def test_refused(text: str) -> None:
    """What is not well formed is refused with the form."""
    with pytest.raises(InvalidRequestError, match="keyholt://PATH"):
        parse(text)


def test_only_the_scheme_decides_what_is_meant() -> None:
    """A text is meant as a reference when it begins like one."""
    assert is_reference("keyholt://a")
    assert not is_reference(" keyholt://a")
    assert not is_reference("KEYHOLT://a")
