"""Words of other programs lead to the command of ours that does the same, never to its opposite."""

from __future__ import annotations

import pytest

from keyholt.cli.other_words import OTHER_WORDS, suggestion
from keyholt.cli.table import COMMANDS, FIRST_WORDS, GROUPS

SLOT = [command.words[1] for command in COMMANDS if command.words[0] == "slot"]


@pytest.mark.parametrize(
    "word,said",
    [
        ("delete", "did you mean 'rm'? See"),
        ("delet", "did you mean 'rm'? See"),
        ("DELETE", "did you mean 'rm'? See"),
        ("set", "did you mean 'put'? See"),
        ("insert", "did you mean 'put'? See"),
        ("show", "did you mean 'get'? See"),
        ("ls", "did you mean 'list'? See"),
        ("unlok", "did you mean 'unlock'? See"),
        ("x", "see"),
    ],
)
def test_first_words(word: str, said: str) -> None:
    """By meaning first, then by letters."""
    assert suggestion(word, FIRST_WORDS) == said


def test_words_within_a_group() -> None:
    """What is meant depends on where the word stands."""
    assert suggestion("set", SLOT) == "did you mean 'add'? See"
    assert suggestion("delete", SLOT) == "did you mean 'remove'? See"
    assert suggestion("passwd", SLOT) == "did you mean 'change'? See"


def test_no_word_of_ours_is_taken_for_another() -> None:
    """A word in the table that is also a name leads to itself, among others, or is no name here."""
    names = {*FIRST_WORDS, *(word for command in COMMANDS for word in command.words)}
    for word in names & set(OTHER_WORDS):
        assert word in OTHER_WORDS[word]
    assert GROUPS.keys() <= names
