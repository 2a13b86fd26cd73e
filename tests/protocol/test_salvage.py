"""What is told of headers that the codec refuses, held against msgpack's own reader and against every cut."""

from __future__ import annotations

from typing import Any, Final, cast

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt_protocol import salvage
from keyholt_protocol.errors import TooLargeError
from keyholt_protocol.limits import MAX_BEFORE_ID, MAX_REQUEST_CONTAINERS, MAX_REQUEST_VALUES
from keyholt_protocol.salvage import check_extent, readable_id

_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.builds(
        msgpack.ExtType, st.integers(0, 127), st.sampled_from([b"", b"a", b"ab", bytes(16), bytes(300)])
    )
)
values: st.SearchStrategy[Any] = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20)
)
WIDE: Final = {
    "long text": "x" * 70_000,
    "text": "x" * 300,
    "bytes": bytes(70_000),
    "some bytes": bytes(300),
    "array": [0] * 40,
    "map": {str(number): number for number in range(20)},
    "extension": msgpack.ExtType(5, bytes(70_000)),
}
"""What is written in the wider formats."""


def entry(key: object, value: object) -> bytes:
    """One entry of a map."""
    return bytes(msgpack.packb(key)) + bytes(msgpack.packb(value))


def count(value: object) -> int:
    """The values that a value is, with those within it."""
    if isinstance(value, dict):
        entries = cast("dict[object, object]", value)
        return 1 + sum(count(key) + count(inner) for key, inner in entries.items())
    return 1 + sum(map(count, cast("list[object]", value))) if isinstance(value, list) else 1


def found_behind(key: object, value: object) -> bool:
    """Whether an id behind one other entry is found, and none where the bytes end before it does."""
    header = b"\x83" + entry(key, value) + entry("id", 4711) + b"\xc1"
    end = len(header) - 1
    if readable_id(header) != (4711 if 1 + count(value) <= MAX_BEFORE_ID else None):
        return False
    return not any(readable_id(header[:cut]) for cut in {*range(min(end, 200)), *range(end - 7, end)})


@given(key=st.text(max_size=40) | st.integers(0, 2**64 - 1) | st.binary(max_size=3), value=values)
def test_id_is_found_behind_anything(key: Any, value: Any) -> None:
    """Whatever msgpack can write may stand before it."""
    assert key == "id" or found_behind(key, value)


@pytest.mark.parametrize("name", WIDE)
def test_id_is_found_behind_the_wide_formats(name: str) -> None:
    """Lengths of two and of four bytes are gone by."""
    assert found_behind("x", WIDE[name])
    assert found_behind("x", [WIDE[name], {"y": WIDE[name]}])


def test_search_for_an_id_finds_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the type of an extension not counted, the search would miss what stands behind one."""
    formats = {**salvage._FORMATS, 0xC9: salvage._Format(width=4, each=1)}
    monkeypatch.setattr(salvage, "_FORMATS", formats)
    assert salvage._SPANS[0xC9] == 0
    assert not found_behind("x", WIDE["extension"])
    assert found_behind("x", WIDE["bytes"])


@given(value=values)
def test_id_is_what_msgpack_reads(value: Any) -> None:
    """Only an integer is one, or a float that is one."""
    header = b"\x81" + entry("id", value)
    whole = type(value) is int or (type(value) is float and value.is_integer() and abs(value) < 2**53)
    if not whole:
        assert readable_id(header) is None
    elif value > -33:
        assert readable_id(header) == (value if value >= 0 or value < -32 else None)


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte_has_its_format(first: int) -> None:
    """The table of formats gives each value the length that msgpack's reader gives it."""
    data = bytes([first]) + b"\x00\x00\x00\x01\x05" + bytes(40)
    unpacker, walk = msgpack.Unpacker(raw=True, strict_map_key=False), salvage._Walk(data)
    walk._left = 100
    unpacker.feed(data)
    try:
        unpacker.skip()
    except ValueError:
        assert first == 0xC1
        with pytest.raises(salvage._LostError):
            walk.pass_value()
    else:
        walk.pass_value()
        assert walk.at == unpacker.tell()


def test_search_is_short() -> None:
    """So many values may stand before the id, and not one more, however they lie within each other."""
    for shape, size in ((b"\xc0", 1), (b"\x91\xc0", 2), (b"\x92\xc0\xc0", 3), (b"\x81\xa0\x81\xa1a\xc0", 5)):
        many, rest = divmod(MAX_BEFORE_ID - 2, size)
        for more, found in ((0, 7), (1, None)):
            head = b"\xdd" + (many + rest + more).to_bytes(4, "big")
            array = head + shape * many + b"\xc0" * (rest + more)
            assert readable_id(b"\x82\xa1x" + array + entry("id", 7)) == found


def containers(value: object) -> int:
    """The maps and arrays that a value is, with those within it."""
    if isinstance(value, dict):
        return 1 + sum(map(containers, cast("dict[object, object]", value).values()))
    return 1 + sum(map(containers, cast("list[object]", value))) if isinstance(value, list) else 0


def refused(data: bytes) -> bool:
    """Whether a header is too much."""
    try:
        check_extent(data)
    except TooLargeError:
        return True
    return False


@given(value=values)
def test_extent_is_counted(value: Any) -> None:
    """Every value within the bounds passes, and none beyond; cut anywhere, what is announced still counts."""
    data = bytes(msgpack.packb({"x": value}))
    too_much = 2 + count(value) > MAX_REQUEST_VALUES or 1 + containers(value) > MAX_REQUEST_CONTAINERS
    assert refused(data) == too_much
    if not too_much:
        assert not any(refused(data[:cut]) for cut in range(min(len(data), 100)))


@pytest.mark.parametrize("name", WIDE)
def test_extent_of_the_wide_formats(name: str) -> None:
    """Lengths of two and of four bytes are gone by: what stands behind is seen."""
    data = b"\x92" + bytes(msgpack.packb(WIDE[name]))
    assert not refused(data + b"\xc0")
    assert refused(data + b"\xdc\x00\xff" + bytes(100))


@pytest.mark.parametrize("filler", [b"\x80", b"\x90", b"\x81\xa1a\x01", b"\x01", b"\xa0", b"\xc0"])
def test_work_on_a_hostile_header_is_bounded(filler: bytes) -> None:
    """Whatever fills it, no more of it is looked at than what may be in it; counted, not timed."""

    class Looked(bytes):
        """Counts how often a byte of it is looked at."""

        def __getitem__(self, index: Any) -> Any:
            looks.append(index)
            return super().__getitem__(index)

    looks: list[Any] = []
    per = 250
    array = b"\xdc" + per.to_bytes(2, "big") + filler * per
    header = Looked(b"\x81\xa1a\xdc\x00\x10" + array * 10)
    with pytest.raises(TooLargeError):
        check_extent(header)
    assert len(looks) <= 3 * MAX_REQUEST_VALUES
    looks.clear()
    header = Looked(b"\x81\xa1a" * 2000)
    with pytest.raises(TooLargeError):
        check_extent(header)
    assert len(looks) <= 6 * MAX_REQUEST_CONTAINERS


def test_largest_request_is_within_the_bounds() -> None:
    """A write with all that it can have."""
    labels = {f"{number:02}" + "k" * 62: "v" * 256 for number in range(16)}
    args = {"path": "p" * 512, "labels": labels, "if_version": 2**31 - 1, "expires": 253_402_300_799}
    request = {"id": 2**53 - 1, "op": "secret.put", "args": args}
    data = bytes(msgpack.packb(request))
    assert count(request) == 47
    assert not refused(data)
    assert len(data) < 7000
