"""In how many ways a value may be written in an output."""

from __future__ import annotations

import base64
import json
import urllib.parse

from hypothesis import given
from hypothesis import strategies as st

from keyholt.cli.spellings import spellings


@given(value=st.binary(min_size=4, max_size=40), before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_wherever_the_value_stands(value: bytes, before: bytes, after: bytes) -> None:
    """Whatever stands around a value, the base64 of it all has one of the spellings in it, url-safe too."""
    made = spellings(bytearray(value))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value + after)
        assert any(spelling in text for spelling in made)


@given(value=st.binary(min_size=4, max_size=40))
def test_percent_encoding(value: bytes) -> None:
    """What the standard library writes in URLs is a spelling."""
    made = spellings(bytearray(value))
    for text in (
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote(value),
        urllib.parse.quote_plus(value),
    ):
        assert text.encode() in made


@given(value=st.text(st.characters(exclude_characters="\x7f", codec="utf-8"), min_size=4, max_size=40))
def test_json(value: str) -> None:
    """What the standard library writes in JSON is a spelling, slashes escaped or not; so is the value."""
    made = spellings(bytearray(value.encode()))
    text = json.dumps(value, ensure_ascii=False)[1:-1]
    for written in (value, value.replace("\n", "\r\n"), text, text.replace("/", "\\/")):
        assert written.encode() in made


def test_spellings_that_are_the_same_are_one() -> None:
    """Letters are the same in all spellings but base64: four things to look for."""
    assert len(spellings(bytearray(b"hunter2hunter2"))) == 4
