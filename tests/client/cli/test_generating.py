"""Generated values: of what they are made, how many bits that is, and that nobody sees them unasked."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

import keyholt
from keyholt.cli import generating
from keyholt.cli.generating import CHARSETS, CONSONANTS, VOWELS
from tests.client.conftest import RunningAgent


def test_a_value_is_written_and_not_shown(agent: RunningAgent) -> None:
    """24 letters and digits, another each time, unless otherwise asked; shown with --show only."""
    said = [agent.cli("generate", "gen/a").out for _ in range(2)]
    assert said == [b"gen/a: version 1, of 142 bits\n", b"gen/a: version 2, of 142 bits\n"]
    with keyholt.connect(agent.address) as client:
        one, two = (client.get("gen/a", version=version).text for version in (1, 2))
        assert one != two
        assert {len(one), len(two)} == {24}
        assert set(one + two) <= set(CHARSETS["alnum"])
        shown = agent.cli("generate", "gen/a", "--show").out.decode().splitlines()
        assert shown == ["gen/a: version 3, of 142 bits", client.get("gen/a").text]
        hidden = json.loads(agent.cli("--json", "generate", "gen/a", "--words", "5").out)
        assert hidden.keys() == {"path", "version", "created", "bits", "value"}
        assert (hidden["value"], hidden["bits"]) == (None, 94)
        words = client.get("gen/a").text.split("-")
        assert [len(word) for word in words] == [6] * 5
        known = json.loads(agent.cli("--json", "generate", "gen/a", "--charset", "hex", "--show").out)
        assert known["value"] == client.get("gen/a").text
        assert agent.cli("generate", "gen/a", "--if-version", "1").status == 1


@pytest.mark.parametrize("words", [("--length", "8"), ("--charset", "hex")])
def test_words_or_characters(agent: RunningAgent, words: tuple[str, str]) -> None:
    """Both at once is a mistake, and writes nothing."""
    assert agent.cli("generate", "gen/none", "--words", "3", *words).status == 2
    assert agent.cli("get", "gen/none").status == 3


@pytest.mark.parametrize("name", CHARSETS)
def test_every_character_is_as_likely(name: str) -> None:
    """At each end each character of the set comes, and in all each as often as any other: six standard
    deviations off happens once in a hundred million. The bits are those of so many even draws.
    """
    charset, length, rounds = CHARSETS[name], 64, 2000
    seen = [generating._characters(length, charset) for _ in range(rounds)]
    assert {bits for _, bits in seen} == {int(length * math.log2(len(charset)))}
    for place in (0, -1):
        assert {chr(value[place]) for value, _ in seen} == set(charset)
    counts = Counter(b"".join(value for value, _ in seen).decode())
    expected = length * rounds / len(charset)
    assert all(abs(counts[character] - expected) < 6 * math.sqrt(expected) for character in charset)


def test_words_are_syllables() -> None:
    """Consonant, vowel, and hyphens between words; each letter comes."""
    value, bits = generating._words(100)
    words = value.decode().split("-")
    assert (len(words), bits) == (100, int(300 * math.log2(80)))
    assert {letter for word in words for letter in word[::2]} == set(CONSONANTS)
    assert {letter for word in words for letter in word[1::2]} == set(VOWELS)
    assert len(set(CONSONANTS)) * len(set(VOWELS)) == 80
