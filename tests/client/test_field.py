"""Fields of values that are JSON objects: by every way to ask for one, and without a trace of the others."""

from __future__ import annotations

import json
import traceback
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keyholt
from keyholt.field import pick
from keyholt.secret import Secret
from keyholt_protocol.errors import InvalidRequestError, KeyholtError, NotFoundError
from tests.client.conftest import RunningAgent
from tests.client.libraries import Library

CANARY = "canary-7c41"
VALUE = {
    "user": "shop",
    "pass word/%": "s\u00e9cret",
    "port": 5432,
    "nested": {"a/b": ["x", {"~": CANARY}], "on": True},
    "none": None,
}
TEXT = json.dumps(VALUE)[:-1] + ', "rate": 1.50, "long": 123456789012345678901234567890, "half": "\\ud800"}'


def picked(field: str, text: str = TEXT) -> str:
    """The field of a value, as text."""
    return pick(bytearray(text.encode()), field, "a/b").decode()


@pytest.mark.parametrize(
    "field,expected",
    [
        ("user", "shop"),
        ("pass word/%", "s\u00e9cret"),
        ("port", "5432"),
        ("rate", "1.50"),
        ("long", "123456789012345678901234567890"),
        ("/user", "shop"),
        ("/nested/a~1b/0", "x"),
        ("/nested/a~1b/1/~0", CANARY),
        ("/nested/on", "true"),
    ],
)
def test_a_field_is_a_name_or_a_pointer(field: str, expected: str) -> None:
    """A text is given without quotes, a number as it was written."""
    assert picked(field) == expected


@pytest.mark.parametrize(
    "field,text,kind,said",
    [
        ("other", TEXT, NotFoundError, "no field 'other'"),
        ("/nested/a~1b/2", TEXT, NotFoundError, "no field"),
        ("/nested/a~1b/00", TEXT, NotFoundError, "no field"),
        ("/nested/a~1b/-1", TEXT, NotFoundError, "no field"),
        ("/nested/a~1b/9999999999", TEXT, NotFoundError, "no field"),
        ("/user/x", TEXT, NotFoundError, "no field"),
        ("nested", TEXT, InvalidRequestError, "name one inside it"),
        ("none", TEXT, InvalidRequestError, "is no text, number"),
        ("half", TEXT, InvalidRequestError, "is no text, number"),
        ("user", f'["{CANARY}"]', InvalidRequestError, "is no JSON object"),
        ("user", f'"{CANARY}', InvalidRequestError, "is no JSON object"),
        ("user", f'{{"user": "{CANARY}" ', InvalidRequestError, "is no JSON object"),
        ("user", '{"user": ' + "[" * 100_000, InvalidRequestError, "is no JSON object"),
    ],
)
def test_what_cannot_be_given_out_is_named(
    field: str, text: str, kind: type[KeyholtError], said: str
) -> None:
    """Each refusal has its sentence; neither it nor what it came from holds anything of the value."""
    with pytest.raises(kind, match=said) as caught:
        picked(field, text)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.text(max_size=20))
def test_any_value_has_a_field_or_a_named_error(value: bytes, field: str) -> None:
    """Reading never ends in another exception."""
    with suppress(KeyholtError):
        pick(bytearray(value), field, "a")


def test_a_field_is_a_secret() -> None:
    """It hides itself and is wiped by itself."""
    whole = Secret(bytearray(TEXT.encode()), path="a/b", version=3, created=5, labels={"k": "v"})
    with whole.field("/nested/a~1b/1/~0") as part:
        assert (part.text, part.version, part.labels) == (CANARY, 3, {"k": "v"})
        assert repr(part) == "<Secret 'a/b' version 3, 11 bytes>"
    with pytest.raises(ValueError, match="was wiped"):
        _ = part.text
    assert whole.field("user").text == "shop"
    wrong: Any = 7
    with pytest.raises(TypeError, match=r"must be text \(str\), not int"):
        whole.field(wrong)


def test_a_reference_stands_where_a_path_does(agent: RunningAgent, library: Library) -> None:
    """All clients take one, with version and field; a wrong field fails its call and nothing else."""
    with keyholt.connect(agent.address) as client:
        client.put("field/a", TEXT)
        client.put("field/a", "two")
        assert client.get("keyholt://field/a").text == "two"
        assert client.get("keyholt://field/a?version=1#user").text == "shop"
        assert client.get("keyholt://field/a#user", version=1).text == "shop"
        with pytest.raises(InvalidRequestError, match="names a version"):
            client.get("keyholt://field/a?version=1", version=1)
        with pytest.raises(InvalidRequestError, match="is no JSON object"):
            client.get("keyholt://field/a#user")
        with pytest.raises(NotFoundError):
            client.get("keyholt://field/a?version=1#other")
        assert client.get("field/a").text == "two"
    assert keyholt.get("keyholt://field/a?version=1#port", address=agent.address).text == "5432"

    async def main() -> None:
        async with library.connect(agent.address) as client:
            assert (await client.get("keyholt://field/a?version=1#user")).text == "shop"
            with pytest.raises(NotFoundError):
                await client.get("keyholt://field/a?version=1#other")
            assert (await client.get("field/a")).text == "two"

    library.run(main)


def test_the_command_line_takes_fields(agent: RunningAgent) -> None:
    """`get`, `run` and `inject` give a field, quickly and by the full path, and say where there is none."""
    with keyholt.connect(agent.address) as client:
        client.put("field/cli", TEXT)
    reference = "keyholt://field/cli?version=1#user"
    for words in (["get", reference], ["--timeout", "30", "get", reference]):
        assert agent.cli(*words).out == b"shop"
    for words in (["run"], ["--timeout", "30", "run"]):
        done = agent.cli(*words, "--", "printenv", "A", env={"A": reference})
        assert done.out == b"shop\n", done.err
    text = b"a=keyholt://field/cli#port, b={{ keyholt://field/cli#pass%20word/%25 }}"
    assert agent.cli("inject", stdin=text).out == "a=5432, b=s\u00e9cret".encode()
    for words, place in ((["run", "--", "true"], "the variable A"), (["get", f"{reference}s"], "")):
        refused = agent.cli(*words, env={"A": f"{reference}s"})
        assert (refused.status, "has no field 'users'" in refused.err) == (3, True)
        assert place in refused.err
