"""The line editor, key by key, held against what the keys mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt.cli.errors import CancelledError
from keyholt.cli.line_editor import LineEditor


def typed(keys: bytes, *, limit: int = 1000, many_lines: bool = False) -> bytes:
    """What the keys come to."""
    editor = LineEditor(limit, many_lines=many_lines)
    assert not any(editor.press(key) for key in keys)
    return bytes(editor.take())


@given(st.lists(st.text("aé€😀 \t", min_size=1, max_size=1) | st.sampled_from(["\x7f", "\x08", "\x15"])))
def test_characters_are_taken_back_whole(keys: list[str]) -> None:
    """Backspace takes one character, of however many bytes; Ctrl-U all."""
    text: list[str] = []
    for key in keys:
        if key == "\x15":
            text.clear()
        elif key in "\x7f\x08":
            del text[-1:]
        else:
            text.append(key)
    assert typed("".join(keys).encode()) == "".join(text).encode()


@given(st.binary(max_size=5000).map(lambda data: data.translate(None, b"\x04\x08\x15\x17\x7f\r")))
def test_everything_else_is_text(data: bytes) -> None:
    """Controls and what is no UTF-8, too, however much of it."""
    assert typed(data, limit=5000, many_lines=True) == data


@pytest.mark.parametrize(
    "keys,text",
    [
        (b"one two\x17", b"one "),
        (b"one two  \x17\x17", b""),
        (b"one\ntwo\x17\x15\x7f", b"one\n"),
        (b"one\rtwo\x15", b"one\n"),
        (b"\x7f\x17\x15", b""),
    ],
)
def test_words_and_lines(keys: bytes, text: bytes) -> None:
    """Ctrl-W takes the last word; in a text of many lines no key reaches beyond its own line."""
    assert typed(keys, many_lines=True) == text


def test_a_terminals_own_keys() -> None:
    """What the terminal has for backspace and for the line counts as well."""
    editor = LineEditor(10, erase=b"#", kill=b"@")
    for key in b"x@abc#":
        editor.press(key)
    assert editor.take() == b"ab"


def test_how_a_text_ends() -> None:
    """Enter ends one line, Ctrl-D many; it cancels one line, and many where there is nothing yet."""
    assert LineEditor(10).press(0x0D)
    assert not LineEditor(10, many_lines=True).press(0x0D)
    many = LineEditor(10, many_lines=True)
    many.press(0x61)
    assert many.press(0x04)
    one = LineEditor(10)
    one.press(0x61)
    for editor in (one, LineEditor(10), LineEditor(10, many_lines=True)):
        with pytest.raises(CancelledError):
            editor.press(0x04)


def test_what_is_too_long_stays_too_long() -> None:
    """One byte more than the limit is kept, and taking it back does not make the text whole; beginning again
    does.
    """
    assert typed(b"abcdef", limit=4) == b"abcde"
    assert typed(b"abcdef\x7f\x7f\x7f", limit=4) == b"abcde"
    assert typed(b"abcdef\x15abc", limit=4) == b"abc"
