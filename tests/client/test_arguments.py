"""What callers give: wrong types are refused before anything is sent, in a sentence that names them."""

from __future__ import annotations

from collections import ChainMap, UserDict
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import keyholt
from keyholt import invocations
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
    (lambda c: c.put("a", "v", labels={"a": 1}), "labels must be a mapping of text to text; it holds int"),
    (
        lambda c: c.put("a", "v", labels={b"a": "b"}),
        "labels must be a mapping of text to text; it holds bytes",
    ),
    (lambda c: c.put("a", "v", labels=["a"]), "labels must be a mapping of text to text, not list"),
    (
        lambda c: c.put("a", "v", expires="90d"),
        "expires must be whole seconds since 1970 (int) or a datetime",
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
        assert client.list("a") == []


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
        lambda: _labelled({"k": value}),
        lambda: invocations.secret_put("a", [value]),  # type: ignore[arg-type]
    ]
    for step in steps:
        with pytest.raises(TypeError) as caught:
            step()
        assert CANARY not in str(caught.value)


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
