"""A secret in models of pydantic: taken as it comes, and shown in no way that a model is shown in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from keyholt import Secret
from keyholt.pydantic_field import MASK

CANARY = "canary-e6d2"


class Login(BaseModel):
    """A model as an application has it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    user: str
    password: Secret
    old: Secret | None = None


def secret() -> Secret:
    """One as the agent gives it."""
    return Secret(bytearray(CANARY.encode()), path="a/b", version=3, created=5)


@pytest.mark.parametrize("given", [CANARY, CANARY.encode(), bytearray(CANARY.encode())])
def test_text_and_bytes_become_a_secret(given: Any) -> None:
    """They are a value from elsewhere: without a path, and version 0."""
    login = Login(user="shop", password=given)
    assert (login.password.text, login.password.path, login.password.version) == (CANARY, "", 0)
    assert Login.model_validate_json(f'{{"user": "shop", "password": "{CANARY}"}}') == login


def test_a_secret_stays_the_same() -> None:
    """One that was fetched keeps its path and version, and is wiped by whoever holds it."""
    one = secret()
    login = Login(user="shop", password=one, old=None)
    assert login.password is one
    assert login.model_dump()["password"] is one
    assert Login.model_validate(login.model_dump()).password is one


def test_no_form_of_a_model_shows_it() -> None:
    """Not repr, not str, not JSON in any form."""
    login = Login(user="shop", password=secret(), old=secret())
    assert login.model_dump(mode="json") == {"user": "shop", "password": MASK, "old": MASK}
    shown = [repr(login), str(login), login.model_dump_json(), str(login.model_dump()), f"{login.password}"]
    assert [text for text in shown if CANARY in text] == []
    assert "<Secret 'a/b' version 3, 11 bytes>" in repr(login)


def test_the_json_schema_is_a_passwords() -> None:
    """Either way, so that forms made from it hide what is typed."""
    expected = {"type": "string", "format": "password", "writeOnly": True, "title": "Password"}
    for mode in ("validation", "serialization"):
        assert Login.model_json_schema(mode=mode)["properties"]["password"] == expected


@pytest.mark.parametrize(
    "given,said",
    [
        ("keyholt://a/b", "fetch it with keyholt.get"),
        (7, "given as a keyholt.Secret, text or bytes"),
        (None, "given as a keyholt.Secret, text or bytes"),
        (f"{CANARY}\ud800", "lone surrogate"),
    ],
)
def test_what_is_no_secret_is_refused(given: Any, said: str) -> None:
    """By pydantic's own error, with the field's name; a reference is not taken for a value."""
    with pytest.raises(ValidationError, match=said) as caught:
        Login(user="shop", password=given)
    assert CANARY not in str(caught.value)
    assert caught.value.errors(include_input=False, include_context=False)[0]["loc"] == ("password",)
