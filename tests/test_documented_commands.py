"""Every `keyholt` command that a document shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from keyholt.cli.errors import UsageError
from keyholt.cli.parser import parse

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LANGUAGES: Final = {"console", "sh", "crontab", "yaml", "ini", "make"}
OPERATORS: Final = frozenset("|&;()<>")


def commands(text: str) -> Iterator[list[str]]:
    """The words after each ``keyholt`` of a text's fenced blocks, up to where a shell ends a command."""
    for language, block in FENCED.findall(text):
        if language not in LANGUAGES:
            continue
        for line in block.replace("\\\n", " ").split("\n"):
            yield from _of_line(line)


def _of_line(line: str) -> Iterator[list[str]]:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return  # what a command prints may hold one quote
    at = [place for place, word in enumerate(words) if word == "keyholt"]
    for place in at:
        found: list[str] = []
        for word in words[place + 1 :]:
            if set(word) <= OPERATORS:
                if set(word) & set("<>") and found and found[-1].isdigit():
                    found.pop()  # the descriptor before a redirection
                break
            found.append(word)
        yield found


SHOWN: Final = [
    pytest.param(words, id=f"{page.name} {' '.join(words)}"[:80])
    for page in DOCUMENTS
    for words in commands(page.read_text("utf-8"))
    if words and not words[0].endswith(":")
]


def test_there_are_some() -> None:
    """They are found where a reader finds them: behind prompts, in pipes, over several lines."""
    shown = [" ".join(param.values[0]) for param in SHOWN]  # type: ignore[arg-type]
    for beginning in ("put prod/db/password --label", "inject", "run --env-file", "unlock --passphrase-fd"):
        assert any(one.startswith(beginning) for one in shown), beginning
    assert len(shown) >= 25


@pytest.mark.parametrize("words", SHOWN)
def test_it_is_taken(words: list[str]) -> None:
    """The parser takes the words as they stand."""
    assert parse(words).command.words[0] in words


def test_another_is_found() -> None:
    """The control: an option that there is not, a word too many."""
    text = "```console\n$ printf x | keyholt put a --lable b=c\n$ keyholt lock now\n```\n"
    found = list(commands(text))
    assert found == [["put", "a", "--lable", "b=c"], ["lock", "now"]]
    for words in found:
        with pytest.raises(UsageError):
            parse(words)
