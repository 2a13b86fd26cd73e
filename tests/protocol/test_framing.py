"""Frames: found whole wherever the stream is cut, and nothing kept of what is refused."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol import framing
from keyholt_protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from keyholt_protocol.framing import FrameDecoder, frame_head
from keyholt_protocol.limits import MAX_PAYLOAD
from keyholt_protocol.limits import MAX_REQUEST_HEADER as MAX_HEADER
from tests.protocol.wire import Pieces, bytewise, decode_frames, frame, frames_model, split_at, wholly

FRAMES: Final = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=40)), max_size=6)
CUTS: Final = st.lists(st.integers(0, 600), max_size=8)
TOO_LARGE: Final = [(MAX_HEADER + 1, 0), (2**32 - 1, 0), (1, MAX_PAYLOAD + 1), (MAX_HEADER + 1, 2**32 - 1)]


class ChecksLateDecoder(FrameDecoder):
    """A planted bug: takes any length that is announced."""

    def _checked_sizes(self, data: memoryview | bytearray) -> tuple[int, int]:
        header_size, payload_size = struct.unpack_from(">II", data)
        return header_size, payload_size


class ForgetsPiecesDecoder(FrameDecoder):
    """A planted bug: a prefix in pieces loses the first of them."""

    def _keep(self, size: int) -> None:
        super()._keep(size)
        if len(self._partial) == 4:
            self._partial.clear()


def check_oversized_is_not_kept(make: type[FrameDecoder], prefix: bytes, pieces: Pieces) -> None:
    """The error comes with the eighth byte, and no byte of what follows it stays."""
    decoder = make(MAX_HEADER)
    with pytest.raises(RemoteProtocolError) as caught:
        _feed_headers(decoder, pieces(prefix + b"S" * 1000))
    assert caught.value.answer.code is ErrorCode.TOO_LARGE
    held = [getattr(decoder, slot) for slot in FrameDecoder.__slots__]
    assert not any(len(value) for value in held if isinstance(value, bytes | bytearray | memoryview))
    assert not decoder.mid_frame
    with pytest.raises(LocalProtocolError):
        decoder.feed(memoryview(b"more"))
    with pytest.raises(LocalProtocolError):
        decoder.next_header()
    with pytest.raises(LocalProtocolError):
        decoder.payload_done()


def _feed_headers(decoder: FrameDecoder, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        decoder.feed(memoryview(piece))
        assert decoder.next_header() is None


@given(frames=FRAMES, cuts=CUTS, direct=st.booleans())
def test_frames_survive_any_cut(frames: list[tuple[bytes, bytes]], cuts: list[int], direct: bool) -> None:
    """What was framed comes out again: whole, byte by byte and cut anywhere, copied or received in place."""
    stream = b"".join(frame_head(header, len(payload), MAX_HEADER) + payload for header, payload in frames)
    for pieces in (wholly, bytewise, split_at(cuts)):
        assert decode_frames(pieces(stream), direct=direct) == (frames, False)


@given(
    parts=st.lists(
        FRAMES.map(lambda frames: b"".join(frame(*one) for one in frames))
        | st.binary(max_size=30)
        | st.sampled_from([struct.pack(">II", *sizes) for sizes in [*TOO_LARGE, (0, 0), (0, 5)]]),
        max_size=4,
    ),
    cuts=CUTS,
    direct=st.booleans(),
)
def test_decoder_agrees_with_the_model(parts: list[bytes], cuts: list[int], direct: bool) -> None:
    """On any bytes the decoder finds the frames, and the broken rule, that the plain layout says."""
    stream = b"".join(parts)
    expected = frames_model(stream)
    for pieces in (wholly, bytewise, split_at(cuts)):
        assert decode_frames(pieces(stream), direct=direct) == expected


@pytest.mark.parametrize("planted", [ForgetsPiecesDecoder, ChecksLateDecoder])
def test_comparison_finds_a_planted_bug(planted: type[FrameDecoder]) -> None:
    """The comparison with the model is not blind."""
    stream = frame(b"hh", b"ppp") + struct.pack(">II", MAX_HEADER + 1, 0)
    assert decode_frames(bytewise(stream)) == frames_model(stream)
    assert decode_frames(bytewise(stream), planted) != frames_model(stream)


@pytest.mark.parametrize("sizes", TOO_LARGE)
@pytest.mark.parametrize("pieces", [wholly, bytewise, split_at([3]), split_at([8]), split_at([9])])
def test_oversized_announcement_is_not_kept(sizes: tuple[int, int], pieces: Pieces) -> None:
    """A length over its limit is refused before a byte of what it announces is kept."""
    check_oversized_is_not_kept(FrameDecoder, struct.pack(">II", *sizes), pieces)


def test_check_of_oversized_finds_a_planted_bug() -> None:
    """A decoder that checks late fails the check."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_oversized_is_not_kept(ChecksLateDecoder, struct.pack(">II", MAX_HEADER + 1, 0), bytewise)


def test_empty_header_is_refused() -> None:
    """A frame has a header of one byte at least; without one the request is invalid, not too large."""
    decoder = FrameDecoder(MAX_HEADER)
    decoder.feed(memoryview(bytes(8)))
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.next_header()
    assert caught.value.answer.code is ErrorCode.INVALID_REQUEST


def test_limits_themselves_are_allowed() -> None:
    """The largest header passes, and the largest payload may be announced."""
    decoder = FrameDecoder(MAX_HEADER)
    decoder.feed(memoryview(struct.pack(">II", MAX_HEADER, MAX_PAYLOAD) + bytes(MAX_HEADER)))
    found = decoder.next_header()
    assert found is not None
    assert (len(found[0]), found[1]) == (MAX_HEADER, MAX_PAYLOAD)


def test_discarded_payload_takes_no_memory() -> None:
    """16 MiB that nobody wants pass through without being gathered; a header in pieces is kept once."""
    piece = bytes(65536)
    tracemalloc.start()
    try:
        decoder = FrameDecoder(MAX_HEADER)
        for byte in bytewise(struct.pack(">II", 2000, MAX_PAYLOAD)):
            decoder.feed(memoryview(byte))
            assert decoder.next_header() is None
        decoder.feed(memoryview(piece)[:2000])
        assert decoder.next_header() is not None
        decoder.accept_payload(None)
        for _ in range(MAX_PAYLOAD // len(piece)):
            assert decoder.mid_frame
            decoder.feed(memoryview(piece))
            decoder.payload_done()
        assert not decoder.mid_frame
        assert tracemalloc.get_traced_memory()[1] < 16_000
    finally:
        tracemalloc.stop()


def test_mid_frame_is_true_from_the_first_byte_to_the_last() -> None:
    """The peer owes bytes exactly while a frame has begun and not ended."""
    decoder, stream, seen = FrameDecoder(MAX_HEADER), frame(b"h" * 3, b"p" * 4), []
    for place, byte in enumerate(bytewise(stream)):
        decoder.feed(memoryview(byte))
        if place < 11 and decoder.next_header() is not None:
            decoder.accept_payload(None)
        elif place >= 11:
            decoder.payload_done()
        seen.append(decoder.mid_frame)
    assert seen == [True] * 14 + [False]


@pytest.mark.parametrize(
    "target",
    [bytearray(3), bytearray(5), bytes(4), memoryview(bytearray(16)).cast("I")],
    ids=["short", "long", "read-only", "wide"],
)
def test_target_of_another_size_or_kind_is_misuse(target: bytes | bytearray | memoryview) -> None:
    """A target must be writable bytes of the payload's size; after a wrong one the right one still goes."""
    decoder = FrameDecoder(MAX_HEADER)
    decoder.feed(memoryview(frame(b"h", b"1234")))
    decoder.next_header()
    with pytest.raises(LocalProtocolError):
        decoder.accept_payload(memoryview(target))
    right = bytearray(4)
    decoder.accept_payload(memoryview(right))
    assert decoder.payload_done()
    assert right == b"1234"


def test_misuse_is_told_and_changes_nothing() -> None:
    """Calls in the wrong order raise; the payload is received all the same."""
    decoder = FrameDecoder(MAX_HEADER)
    with pytest.raises(LocalProtocolError):
        decoder.accept_payload(None)
    decoder.feed(memoryview(frame(b"h", b"1234")[:11]))
    with pytest.raises(LocalProtocolError):
        decoder.feed(memoryview(b"x"))
    decoder.next_header()
    with pytest.raises(LocalProtocolError):
        decoder.payload_done()
    with pytest.raises(LocalProtocolError):
        decoder.payload_received(1)
    with pytest.raises(LocalProtocolError):
        decoder.next_header()
    target = bytearray(4)
    decoder.accept_payload(memoryview(target))
    with pytest.raises(LocalProtocolError):
        decoder.payload_received(2)
    assert not decoder.payload_done()
    for wrong in (3, -1):
        with pytest.raises(LocalProtocolError):
            decoder.payload_received(wrong)
    room = decoder.payload_room()
    assert room is not None
    room[:] = b"34"
    decoder.payload_received(2)
    assert decoder.payload_done()
    assert target == b"1234"
    assert decoder.payload_room() is None


def test_discarded_payload_has_no_room() -> None:
    """What is discarded cannot be received in place."""
    decoder = FrameDecoder(MAX_HEADER)
    decoder.feed(memoryview(frame(b"h", b"1234")[:9]))
    decoder.next_header()
    decoder.accept_payload(None)
    assert decoder.payload_room() is None
    with pytest.raises(LocalProtocolError):
        decoder.payload_received(4)


@pytest.mark.parametrize(
    "header, payload", [(b"", 0), (bytes(MAX_HEADER + 1), 0), (b"h", MAX_PAYLOAD + 1), (b"h", -1)]
)
def test_frame_outside_the_limits_is_not_made(header: bytes, payload: int) -> None:
    """A frame that the peer would refuse is never sent."""
    with pytest.raises(LocalProtocolError):
        framing.frame_head(header, payload, MAX_HEADER)
