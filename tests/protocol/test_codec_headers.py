"""The codec of headers: nothing that is not a map of the wire gets in, at a bounded cost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
import typing
from typing import Final

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol import codec
from keyholt_protocol.codec import pack_header, unpack_header
from keyholt_protocol.errors import InvalidRequestError
from keyholt_protocol.limits import MAX_ENTRIES, MAX_REQUEST_HEADER, MAX_RESPONSE_HEADER
from tests.protocol.hostile_headers import HOSTILE, Decode, Refusal, check_refused
from tests.protocol.wire import RefusedError, decode_model

GET: Final = {"id": 1, "op": "secret.get", "args": {"path": "a/b", "version": 7}}


def naive_decode(data: bytes) -> dict[str, object]:
    """A planted bug: msgpack as it comes."""
    try:
        return typing.cast("dict[str, object]", msgpack.unpackb(data))
    except (ValueError, msgpack.UnpackException):
        raise InvalidRequestError from None


def agrees_with_model(decode: Decode, data: bytes) -> bool:
    """Whether the decoder and the model take the bytes for the same, or both refuse them."""
    try:
        expected = repr(decode_model(data))
    except RefusedError:
        expected = "refused"
    try:
        return repr(decode(data)) == expected
    except Refusal:
        return expected == "refused"


def mutations(seed: int, count: int) -> typing.Iterator[bytes]:
    """Headers with a few bytes changed, dropped or put in, and plain random bytes, by turns."""
    dice = random.Random(seed)
    samples = [
        pack_header(GET),
        pack_header({"a": [1, 2.5, True, None, {"b": "é" * 40}], "c": -5, "d": 2**63}),
    ]
    samples += [
        b"\x81\xa1t" + ext
        for ext in (b"\xd6\xff\0\0\0\1", b"\xc7\x03\x05abc", b"\xc4\x02ab", b"\xca\x7f\xc0\0\0")
    ]
    for turn in range(count):
        data = bytearray(dice.choice(samples) if turn % 4 else dice.randbytes(dice.randrange(40)))
        for _ in range(dice.randint(1, 4) if turn % 4 else 0):
            place = dice.randrange(len(data) + 1)
            data[place : place + dice.randrange(3)] = bytes(
                dice.choice([dice.randrange(256), dice.randrange(0xC0, 0xE0), 0x80, 0x81])
                for _ in range(dice.randrange(3))
            )
        yield bytes(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_header_is_refused(name: str) -> None:
    """Whatever is no single clean map is an invalid request, from any kind of buffer."""
    for kind in (bytes, bytearray, memoryview):
        check_refused(unpack_header, name, kind)


@pytest.mark.parametrize("name", ["duplicate key", "duplicate key in an array", "ext", "bytes", "timestamp"])
def test_check_of_hostile_headers_finds_a_planted_bug(name: str) -> None:
    """Plain msgpack takes these in silence, and the check says so."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_refused(naive_decode, name)


def test_duplicate_key_is_refused_at_every_depth() -> None:
    """However deep a key stands twice, the header is refused; standing once, it is taken."""
    once, twice = b"\x82\xa1a\x01\xa1b\x02", b"\x82\xa1a\x01\xa1a\x02"
    for depth in range(1, 200):
        wrap = b"".join(b"\x81\xa1x" if level % 2 == 0 else b"\x91" for level in range(depth))
        assert unpack_header(wrap + once)
        with pytest.raises(InvalidRequestError, match="same key twice"):
            unpack_header(wrap + twice)


def test_only_refusals_come_out_of_a_hundred_thousand_mutations() -> None:
    """No bytes make the decoder raise anything else."""
    taken = 0
    for data in mutations(1, 100_000):
        try:
            assert type(unpack_header(data)) is dict
            taken += 1
        except Refusal:
            pass
    assert 1000 < taken < 99_000  # both ways out were walked


def test_decoder_agrees_with_the_model() -> None:
    """On mutated headers, and on all hostile ones that a recursive model can read, both decide the same."""
    assert all(agrees_with_model(unpack_header, data) for data in mutations(2, 20_000))
    assert all(agrees_with_model(unpack_header, data) for name, data in HOSTILE.items() if "deep" not in name)


def test_comparison_finds_a_planted_bug() -> None:
    """The comparison with the model is not blind."""
    assert not all(agrees_with_model(naive_decode, data) for data in mutations(2, 20_000))
    assert not agrees_with_model(naive_decode, HOSTILE["duplicate key"])


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_agree_with_the_model(data: bytes) -> None:
    """Hypothesis looks for bytes on which decoder and model differ."""
    assert agrees_with_model(unpack_header, data)
    assert agrees_with_model(unpack_header, b"\x81\xa1a" + data)


def test_decoder_without_the_extension_module_refuses_the_same() -> None:
    """Where msgpack falls back to Python, the same bytes are refused with the same error."""
    program = (
        "from tests.protocol import test_codec_headers as t\n"
        "import msgpack.fallback\n"
        "assert t.msgpack.unpackb is msgpack.fallback.unpackb\n"
        "for name in t.HOSTILE: t.check_refused(t.unpack_header, name)\n"
        "assert all(t.agrees_with_model(t.unpack_header, data) for data in t.mutations(3, 2000))\n"
        "assert t.unpack_header(t.pack_header(t.GET)) == t.GET\n"
    )
    environment = {
        **os.environ,
        "MSGPACK_PUREPYTHON": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)


def costly_header(name: str, size: int) -> bytes:
    """A header of nearly ``size`` bytes that is made to cost its reader much."""
    leaf = {"small arrays": b"\x90", "small maps": b"\x80", "maps of one": b"\x81\xa0\x80"}.get(name)
    if leaf is not None:
        inner = b"\xdc\x00\xfa" + leaf * 250
        count = (size - 6) // len(inner)
        return b"\x81\xa1a\xdc" + count.to_bytes(2, "big") + inner * count
    if name == "arrays announced":
        return b"\x81\xa1a" + b"\xdc\x01\x00" * ((size - 3) // 3)
    if name == "maps announced":
        return b"\x81\xa1a" + b"\xde\x01\x00\xa1a" * ((size - 3) // 5)
    if name == "wide text":
        text = b"\xf0\x9f\x98\x80" * (size // 4 - 2)
        return b"\x81\xa1a\xdb" + len(text).to_bytes(4, "big") + text
    key = size // MAX_ENTRIES - 4
    return b"\xde\x01\x00" + b"".join(b"\xd9%c%0*d\x80" % (key, key, n) for n in range(MAX_ENTRIES))


@pytest.mark.parametrize("limit, most", [(MAX_REQUEST_HEADER, 2.5), (MAX_RESPONSE_HEADER, 6)])
@pytest.mark.parametrize(
    "name",
    [
        "arrays announced",
        "maps announced",
        "small arrays",
        "small maps",
        "maps of one",
        "long keys",
        "wide text",
    ],
)
def test_memory_of_a_hostile_header_is_bounded(name: str, limit: int, most: float) -> None:
    """No request's header costs more than 2.5 MiB while it is decoded, no response's more than 6."""
    data = costly_header(name, limit)
    assert limit * 0.9 < len(data) <= limit
    assert peak_of(data) < most * 2**20


def peak_of(data: bytes) -> int:
    """The most memory that is taken while a header is decoded, of which nothing may be left."""
    tracemalloc.start()
    try:
        try:
            unpack_header(data)
        except Refusal:
            pass
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 2**19
    return peak


def test_measure_of_memory_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were containers taken for as long as they say they are, the measure would show it."""
    monkeypatch.setattr(codec, "MAX_ENTRIES", 2**16)
    data = costly_header("arrays announced", MAX_REQUEST_HEADER).replace(b"\x01\x00", b"\xff\xff")
    assert peak_of(data) > 2.5 * 2**20
