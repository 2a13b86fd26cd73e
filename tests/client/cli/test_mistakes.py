"""What is no command, option or number is said in a sentence that has what is."""

from __future__ import annotations

import pytest

from keyholt.cli.command import Kind
from keyholt.cli.errors import UsageError
from keyholt.cli.parser import parse
from keyholt.cli.table import COMMANDS, GLOBAL


@pytest.mark.parametrize(
    "words,least,most",
    [
        ([["--timeout"], ["status"]], 0, 1_000_000),
        ([["put", "a", "--if-version"], []], 0, 2**31 - 1),
        ([["get", "a", "--version"], []], 1, 2**31 - 1),
        ([["destroy", "a", "--version"], []], 1, 2**31 - 1),
        ([["unlock", "--passphrase-fd"], []], 0, 2**31 - 1),
    ],
)
def test_a_number_that_cannot_be_says_what_can(words: list[list[str]], least: int, most: int) -> None:
    """Less, more, or no number at all: the sentence has the least and the greatest, which are taken."""
    before, after = words
    for number in (least - 1, most + 1, 10**30, "1.5", "x", "", "٣"):
        with pytest.raises(UsageError) as caught:
            parse([*before, str(number), *after])
        option = before[-1]
        said = f"argument {option}: it must be a whole number from {least} to {most}; see `keyholt"
        assert str(caught.value).startswith(said)
    for number in (least, most):
        name = before[-1].strip("-").replace("-", "_")
        assert getattr(parse([*before, str(number), *after]), name) == number


def test_every_number_has_its_bounds() -> None:
    """None was forgotten."""
    parameters = [*GLOBAL, *(parameter for command in COMMANDS for parameter in command.parameters)]
    numbers = [parameter for parameter in parameters if parameter.kind is Kind.NUMBER]
    assert len(numbers) > 5
    assert all(least < most for least, most in (parameter.bounds for parameter in numbers))
