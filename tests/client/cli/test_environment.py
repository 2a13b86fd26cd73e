"""Values in the environment of a command, as functions; ``test_running`` has the commands."""

from __future__ import annotations

import pytest

from keyholt.cli.environment import VariableError, fill

CANARY = b"canary-c41d"


@pytest.mark.parametrize("value,said", [(CANARY + b"\xff", "not UTF-8"), (CANARY + b"\0", "a NUL byte")])
def test_a_refused_value_is_in_no_exception(value: bytes, said: str) -> None:
    """The error names the variable; neither it nor what it was raised in place of holds the value."""
    environment: dict[bytes, bytes] = {}
    with pytest.raises(VariableError, match=f"the variable A: .*{said}") as caught:
        fill(environment, b"A", bytearray(value))
    assert caught.value.__context__ is None
    assert CANARY.decode() not in str(caught.value)
    assert environment == {}
