"""Masking: values are found however the text is cut, and nothing else is held back."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from keyholt.cli.masking import CHUNK, MARK, Mask, needles

LETTERS = st.text("abc", max_size=40).map(str.encode)
VALUES = st.lists(
    st.text("ab", min_size=4, max_size=6).map(lambda text: bytearray(text.encode())), max_size=3
)


def masked(sought: list[bytearray], *pieces: bytes) -> bytes:
    """What comes of a stream that comes in these pieces."""
    out = bytearray()
    mask = Mask(sought, out.extend)
    for piece in pieces:
        mask.room[: len(piece)] = piece
        mask.took(len(piece))
    mask.finish()
    return bytes(out)


def without(values: list[bytearray], text: bytes) -> bytes:
    """The text without every byte that is part of a value, found the slow way."""
    inside = {
        place
        for value in values
        for start in range(len(text))
        if text.startswith(bytes(value), start)
        for place in range(start, start + len(value))
    }
    return bytes(byte for place, byte in enumerate(text) if place not in inside)


@given(values=VALUES, text=LETTERS, cuts=st.sets(st.integers(0, 40)))
def test_no_byte_of_a_value_and_all_others(values: list[bytearray], text: bytes, cuts: set[int]) -> None:
    """However the stream is cut, and however values overlap: what is not in one comes through, in order."""
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[begin:end] for begin, end in itertools.pairwise(places)]
    assert masked(values, *pieces).replace(MARK, b"") == without(values, text)
    assert masked(values, text).replace(MARK, b"") == without(values, text)


def test_a_mark_in_the_place_of_a_value() -> None:
    """Each value is one mark, in two pieces or in one; overlapping ones share it."""
    sought = needles([bytearray(b"secret"), bytearray(b"etchings\n")])
    assert masked(sought, b"a secret; a sec", b"ret") == b"a <masked>; a <masked>"
    assert masked(sought, b"secretchings.") == b"<masked>."
    assert masked(sought, b"c2VjcmV0") == b"<masked>"


def test_what_begins_nothing_goes_out_at_once() -> None:
    """A prompt is written when it comes; the beginning of a value only when it turns out to be none."""
    out = bytearray()
    mask = Mask([bytearray(b"secret")], out.extend)
    for piece, shown in ((b"Name: ", b"Name: "), (b"sec", b"Name: "), (b"und ", b"Name: secund ")):
        mask.room[: len(piece)] = piece
        mask.took(len(piece))
        assert out == shown


def test_a_letter_is_seen_after_a_moment_and_the_rest_is_masked() -> None:
    """What was let through is not written again, whether a value comes of it or not."""
    for rest, shown in ((b"cret.", b"se<masked>."), (b"t.", b"set.")):
        out = bytearray()
        mask = Mask([bytearray(b"secret")], out.extend)
        for piece in (b"se", rest):
            mask.room[: len(piece)] = piece
            mask.took(len(piece))
            mask.settle()
        assert out == shown


def test_short_values_are_not_looked_for() -> None:
    """Three bytes are too short, and so are three and a line end."""
    assert needles([bytearray(b"abc"), bytearray(b"abc\r\n"), bytearray()]) == []


def test_a_value_across_the_end_of_the_buffer() -> None:
    """A stream that always fills the room there is has its values masked at every place."""
    value = bytearray(b"0123456789")
    text = b"".join(b"%07d" % number + b"0123456789" for number in range(3 * CHUNK // 17))
    out = bytearray()
    mask = Mask([value], out.extend)
    at = 0
    for _ in range(16):
        piece = text[at : at + len(mask.room)]
        mask.room[: len(piece)] = piece
        mask.took(len(piece))
        at += len(piece)
    mask.finish()
    assert out == text.replace(b"0123456789", MARK)


def test_the_memory_is_zero_in_the_end() -> None:
    """Nothing of what passed through is left."""
    mask = Mask([bytearray(b"secret")], bytearray().extend)
    room = mask.room
    room[:8] = b"a secret"
    mask.took(8)
    mask.finish()
    assert not any(room)
