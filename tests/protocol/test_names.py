"""Names: what is refused, and that two names which are accepted are never one."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol import names
from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.names import check_labels, check_name, check_path, check_prefix
from tests.protocol.wire import paths

# By Unicode's DerivedCoreProperties.txt, Default_Ignorable_Code_Point: drawn as nothing at all.
IGNORABLE = [
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
]  # fmt: skip

REFUSALS = (InvalidRequestError, TooLargeError)

REFUSED = {
    "empty": "",
    "slash": "/",
    "leading slash": "/a",
    "trailing slash": "a/",
    "empty segment": "a//b",
    "dot": ".",
    "dot segment": "a/./b",
    "dots": "..",
    "dots first": "../a",
    "dots last": "a/..",
    "leading space": " a",
    "trailing space": "a ",
    "space around a segment": "a/ b/c",
    "only a space": "a/ ",
    "question mark": "a?version=1",
    "hash": "a#b",
    "1,000 characters": "x" * 1000,
    "513 bytes": "x" * 513,
    "513 bytes of UTF-8": "é" * 256 + "x",
    "33 segments": "/".join("a" * 33),
    "newline": "a\n",
    "newline alone": "a/\n",
    "NUL": "a\0b",
    "escape": "a\x1b[2Jb",
    "delete": "a\x7f",
    "C1 control": "a\x85b",
    "no-break space": "a\u00a0b",
    "line separator": "a\u2028b",
    "ideographic space": "a\u3000b",
    "ogham space, a visible one": "a\u1680b",
    "right-to-left override": "a\u202eb",
    "zero width space": "a\u200bb",
    "byte order mark": "\ufeffa",
    "soft hyphen": "pass\u00adword",
    "Hangul filler": "a\u3164b",
    "Hangul choseong filler": "a\u115fb",
    "variation selector": "a\ufe0f",
    "ideographic variation selector": "a\U000e0100",
    "grapheme joiner": "a\u034fb",
    "braille blank": "a\u2800b",
    "null notehead": "a\U0001d159",
    "tag": "a\U000e0041",
    "private use": "a\ue000",
    "unassigned": "a\u0378",
    "no character": "a\ufdd0",
    "lone high surrogate": "a\ud800b",
    "lone low surrogate": "a\udfff",
    "decomposed": "e\u0301",
    "ligature": "\ufb01le",
    "full width": "\uff41",
    "superscript": "x\u00b2",
    "Angstrom": "\u212b",
    "Kelvin": "\u212a",
    "full-width slash": "a\uff0fb",
    "full-width dots": "a/\uff0e\uff0e/b",
    "two dots in one": "\u2025",
}  # fmt: skip
ACCEPTED = [
    "a", "prod/db/password", "...", ".env", "a..b", "a/.b", "a b/c d", "é", "日本/語", "пароль",
    "a:b@c+d=e,f~g", "x%2F", "x" * 512, "é" * 256, "/".join("a" * 32), "नमस्ते", "😀",
    "\\", "'\"`$(x)", "*", "-rf", "~", "한국",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_path_is_refused(name: str) -> None:
    """Each of these names no secret, and the refusal is a sentence without the raw character in it."""
    with pytest.raises(REFUSALS) as caught:
        check_path(REFUSED[name])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ACCEPTED)
def test_path_is_accepted(path: str) -> None:
    """Each of these is a path, and begins with all of its beginnings."""
    check_path(path)
    for end in range(len(path) + 1):
        check_prefix(path[:end])


def test_invisible_characters_are_refused_everywhere() -> None:
    """Nothing that Unicode says to ignore passes; ``isprintable`` alone lets 267 of them through."""
    characters = [chr(code) for first, last in IGNORABLE for code in range(first, last + 1)]
    assert sum(map(str.isprintable, characters)) > 200  # the reason for the list in names
    checks: list[Callable[[str], None]] = [check_path, check_prefix, lambda text: check_labels({text: ""})]
    for character in characters:
        for check in checks:
            with pytest.raises(REFUSALS):
                check(f"a{character}b")


def test_what_is_accepted_is_seen_and_normal() -> None:
    """A character in a path is assigned, no control, no format, no space but one, and its own normal form."""
    accepted = 0
    # The first two planes, where scripts and symbols are, and the ends of the others.
    for code in (*range(0x20000), *range(0x2FA00, 0x31400), *range(0xE0000, 0xE0200), sys.maxunicode):
        character = chr(code)
        try:
            check_path(f"a{character}a")
        except REFUSALS:
            continue
        accepted += 1
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert unicodedata.category(character) != "Zs" or character == " "
        assert unicodedata.normalize("NFKC", character) == character
    assert accepted > 50_000


@given(text=st.text(max_size=12) | paths)
def test_no_two_accepted_paths_normalise_alike(text: str) -> None:
    """Whatever normal form a path is put through, the result is the same path or none."""
    try:
        check_path(text)
    except REFUSALS:
        return
    for form in ("NFC", "NFKC"):
        assert unicodedata.normalize(form, text) == text
    decomposed = unicodedata.normalize("NFKD", text)
    if decomposed != text:
        with pytest.raises(REFUSALS):
            check_path(decomposed)


@given(path=st.from_regex(names._PLAIN_PATH, fullmatch=True))
def test_plain_paths_break_no_rule(path: str) -> None:
    """The pattern that spares most paths the slow checks matches nothing that these would refuse."""
    names._check_characters(path, "path")
    names._check_segments(path.split("/"), "path")


@given(path=paths, size=st.integers(0, 200))
def test_beginning_of_a_path_is_a_prefix(path: str, size: int) -> None:
    """Every path is found below each of its beginnings."""
    check_path(path)
    check_prefix(path[:size])


@pytest.mark.parametrize(
    "prefix",
    [
        "/",
        "/a",
        "a//",
        "a//b",
        "../",
        "a/./",
        " a",
        "a /b",
        "a/ ",
        "a?",
        "\u200b",
        "e\u0301",
        "x" * 513,
        "a/" * 32,
    ],
)
def test_prefix_of_no_path_is_refused(prefix: str) -> None:
    """A prefix that no path can begin with is a mistake, not an empty listing."""
    with pytest.raises(REFUSALS):
        check_prefix(prefix)


@pytest.mark.parametrize("name", ["a", "passphrase", "0", "yubi-key_2.b", "x" * 64])
def test_name_is_accepted(name: str) -> None:
    """Lower-case letters, digits, and three signs inside."""
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "é", "-a", ".a", "_a", "a b", "a/b", "a\n", "x" * 65, "x" * 1000, "\ud800", "a\0", "１"]
)
def test_name_is_refused(name: str) -> None:
    """Anything else names no keyslot."""
    with pytest.raises(REFUSALS, match="1 to 64"):
        check_name(name)


@pytest.mark.parametrize(
    "labels",
    [
        {"": "x"}, {"k" * 65: ""}, {"é" * 33: ""}, {"k": "v" * 257}, {"k": "é" * 129}, {"k\n": ""},
        {"k": "a\nb"}, {"k": "\ud800"}, {"\ud800": ""}, {"e\u0301": ""}, {"k\u200b": ""}, {"k": "\u202e"},
        {str(n): "" for n in range(17)},
    ],
    ids=repr,
)  # fmt: skip
def test_labels_are_refused(labels: dict[str, str]) -> None:
    """Too many, too long, unprintable, or with a key that could be taken for another."""
    with pytest.raises(REFUSALS):
        check_labels(labels)


@pytest.mark.parametrize(
    "labels", [{}, {"k" * 64: "v" * 256}, {"é" * 32: "é" * 128}, {"k": ""}, {str(n): "" for n in range(16)}]
)
def test_labels_are_accepted(labels: dict[str, str]) -> None:
    """The limits themselves are allowed."""
    check_labels(labels)


def test_check_of_invisible_characters_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``isprintable`` alone the check above fails."""
    monkeypatch.setattr(names, "_INVISIBLE", re.compile("(?!)"))
    with pytest.raises(pytest.fail.Exception):
        test_invisible_characters_are_refused_everywhere()


def test_check_of_normal_form_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the normal form two names for one are accepted, and the survey of Unicode sees it."""
    monkeypatch.setattr(unicodedata, "is_normalized", lambda _form, _text: True)
    with pytest.raises(AssertionError):
        test_what_is_accepted_is_seen_and_normal()
