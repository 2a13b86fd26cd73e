"""What callers give: wrong types are refused before anything is sent, in a sentence that names them."""

from __future__ import annotations

import time
from collections import ChainMap, UserDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import keyholt
from keyholt import invocations
from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.messages import SecretPutRequest
from tests.client.conftest import RunningAgent
from tests.client.libraries import Library

CANARY = "canary-31ac"

Step = Callable[[Any], Any]

WRONG: list[tuple[Step, str]] = [
    (lambda c: c.put("a", None), "the value must be bytes, bytearray, memoryview or text, not NoneType"),
    (lambda c: c.put("a", 7), "the value must be bytes, bytearray, memoryview or text, not int"),
    (lambda c: c.unlock(passphrase=None), "the passphrase must be bytes, bytearray, memoryview or text"),
    (lambda c: c.slots.add("n", existing="x", new=None), "the passphrase must be bytes, bytearray"),
    (lambda c: c.get(b"a"), "path must be text (str), not bytes"),
    (lambda c: c.get(None), "path must be text (str), not NoneType"),
    (lambda c: c.get("a", version="1"), "version must be a whole number (int) or None, not str"),
    (lambda c: c.get("a", version=True), "version must be a whole number (int) or None, not bool"),
    (lambda c: c.destroy("a", version=1.5), "version must be a whole number (int), not float"),
    (lambda c: c.list(None), "prefix must be text (str), not NoneType"),
    (lambda c: c.history(Path("a")), "path must be text (str), not "),
    (lambda c: c.delete(7), "path must be text (str), not int"),
    (lambda c: c.put("a", "v", labels=["a"]), "labels must be a mapping of text to text or None, not list"),
    (
        lambda c: c.put("a", "v", expires="90d"),
        "expires must be whole seconds since 1970 (int), a datetime or a timedelta from now, not str",
    ),
    (lambda c: c.unlock(passphrase="x", slot=7), "slot must be text (str) or None, not int"),
]


@pytest.mark.parametrize("step,said", WRONG)
def test_a_wrong_type_is_named(agent: RunningAgent, step: Step, said: str) -> None:
    """A ``TypeError`` that says which argument it is and what it must be; nothing is written, and the
    connection goes on.
    """
    with keyholt.connect(agent.address) as client:
        with pytest.raises(TypeError) as caught:
            step(client)
        assert str(caught.value).startswith(said)
        assert "a" not in {info.path for info in client.list("a")}


@pytest.mark.parametrize(
    "labels,said",
    [
        ({"fine": "b", "a": 1}, "the value of 'a' is of type int; write it as text"),
        ({"a": None}, "the value of 'a' is of type NoneType"),
        ({b"a": "b"}, "the key of one is of type bytes; its name must be text"),
    ],
)
def test_a_label_that_is_no_text_is_named(labels: Any, said: str) -> None:
    """A refusal says which label it is, and is an error of Keyholt: labels come from elsewhere."""
    with pytest.raises(InvalidRequestError, match=said) as caught:
        _labelled(labels)
    assert caught.value.details == {"field": "labels"}


def test_expiry_is_a_time_to_come_in_any_form(agent: RunningAgent, library: Library) -> None:
    """Seconds, a ``datetime`` and a ``timedelta`` mean the same in every client; none is cut short."""
    moment = datetime(2100, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    forms: list[Any] = [moment, moment.astimezone(UTC), int(moment.timestamp())]
    with keyholt.connect(agent.address) as client:
        for form in forms:
            client.put("expiry/a", "v", expires=form)
            assert client.get("expiry/a").expires == moment.timestamp()
        before = time.time()
        client.put("expiry/a", "v", expires=timedelta(days=90, milliseconds=1))
        expires = client.get("expiry/a").expires
        assert expires is not None
        assert 0 < expires - before - timedelta(days=90).total_seconds() <= 2 + time.time() - before

    async def main() -> None:
        async with library.connect(agent.address) as client:
            await client.put("expiry/b", "v", expires=timedelta(minutes=5))
            assert (await client.get("expiry/b")).expires is not None

    library.run(main)


@pytest.mark.parametrize(
    "expires,said",
    [
        (90, "is past; give a later one, or a timedelta"),
        (1, "is past"),
        (datetime(2001, 2, 3, tzinfo=UTC), "is past"),
        (timedelta(0), "is past"),
        (timedelta(days=-1), "is past"),
        (datetime(2100, 1, 1), "has no time zone; use datetime.now"),  # noqa: DTZ001  # that is the point
    ],
)
def test_an_expiry_that_is_none_is_refused(expires: Any, said: str) -> None:
    """What would never be given out is not written: a past time, seconds from now taken for a moment."""
    with pytest.raises(InvalidRequestError, match=said) as caught:
        invocations.secret_put("a", "v", expires=expires)
    assert caught.value.details == {"field": "expires"}


def test_no_expiry_can_be_meant() -> None:
    """0 is for never, which takes away the one that there is; ``None`` says nothing of it."""
    for expires in (0, None):
        request = invocations.secret_put("a", "v", expires=expires).request
        assert isinstance(request, SecretPutRequest)
        assert request.expires == expires


def test_no_client_writes_nothing_for_none(agent: RunningAgent, library: Library) -> None:
    """A value that is ``None`` is no empty value to the clients for tasks either."""

    async def main() -> None:
        nothing: Any = None
        async with library.connect(agent.address) as client:
            with pytest.raises(TypeError, match="the value must be"):
                await client.put("none/a", nothing)
            assert await client.list("none/") == []

    library.run(main)


def test_no_value_is_repeated() -> None:
    """What was given in the wrong place may be a secret: the sentence has its type only."""
    value: Any = CANARY.encode()
    steps: list[Callable[[], object]] = [
        lambda: invocations.secret_get(value),
        lambda: invocations.secret_put("a", [value]),  # type: ignore[arg-type]
    ]
    for step in steps:
        with pytest.raises(TypeError) as caught:
            step()
        assert CANARY not in str(caught.value)
    for labels in ({"k": value}, {value: "v"}):
        with pytest.raises(InvalidRequestError) as refused:
            _labelled(labels)
        assert CANARY not in str(refused.value)


def _labelled(labels: Any) -> object:
    return invocations.secret_put("a", "v", labels=labels).request


def test_other_forms_of_the_right_types_are_taken(agent: RunningAgent) -> None:
    """Any mapping, a subclass of text, any contiguous buffer; an empty value is a value."""

    class Where(StrEnum):
        A = "forms/a"

    with keyholt.connect(agent.address) as client:
        client.put(Where.A, memoryview(bytearray(b"abc")), labels=UserDict(k="v"))
        assert (client.get("forms/a").text, client.get(Where.A).labels) == ("abc", {"k": "v"})
        client.put("forms/a", b"", labels=ChainMap())
        assert len(client.get("forms/a")) == 0


def test_labels_are_those_of_the_call() -> None:
    """A mapping that its owner changes later does not change the request."""
    labels = {"k": "v"}
    request: Any = _labelled(labels)
    labels["k"] = "other"
    assert request.labels == {"k": "v"}


def test_an_address_may_be_a_path(agent: RunningAgent, library: Library) -> None:
    """All clients take a ``Path``; one that looks like another form is a path all the same."""
    address = Path(agent.address)
    keyholt.connect(address).close()

    async def main() -> None:
        async with library.connect(address) as client:
            await client.status()

    library.run(main)
    with pytest.raises(keyholt.AgentUnreachableError, match="there is no socket at"):
        keyholt.connect(Path("fd:3"))
    wrong: Any
    for wrong in (7, b"/run/keyholt/agent.sock"):
        with pytest.raises(TypeError, match="the address must be text or a path, not"):
            keyholt.connect(wrong)
