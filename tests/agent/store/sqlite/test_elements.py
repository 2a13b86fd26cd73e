"""The encodings of rows: no two rows have the same, whatever their tables, and nothing else has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyholt_agent.store.sqlite import elements
from keyholt_protocol.errors import IntegrityError
from keyholt_protocol.limits import MAX_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 300)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BYTES = st.binary(max_size=20)
# Bytes that look like the encodings of other columns.
LOOKALIKES = BYTES | st.builds(
    bytes.__add__, st.integers(0, 300).map(lambda number: number.to_bytes(8, "big")), BYTES
)
FLAGS = st.sampled_from([0, 1])
PATHS = TEXTS.map(str.encode) | LOOKALIKES

Row = tuple[Any, ...]

ENCODE: Final[dict[int, Callable[[Row], bytes]]] = {
    1: lambda row: elements.store_meta(*row),
    2: lambda row: elements.keyslot(*row),
    3: lambda row: elements.master_key(*row),
    4: elements.head,
    5: elements.version,
}
"""The function of each table, by the number that stands before its rows."""

SHAPES: Final = {
    1: "bib",
    2: "ittibb",
    3: "ibitttiiib",
    4: "ibvo",
    5: "iiiiifbb",
}
"""The columns of each table: integer, integer or nothing (o), latest version (v), flag, text, bytes."""

COLUMNS: Final = {
    "i": INTEGERS,
    "v": st.integers(1, MAX_VERSION),
    "o": st.none() | INTEGERS,
    "f": FLAGS,
    "t": TEXTS,
    "b": LOOKALIKES,
}

ROWS = st.one_of(
    *(
        st.tuples(st.just(table), st.tuples(*(COLUMNS[kind] for kind in shape)))
        for table, shape in SHAPES.items()
    )
)


class Reader:
    """Takes an encoding apart, with nothing but the table in the module's docstring."""

    def __init__(self, encoded: bytes) -> None:
        self._rest = encoded

    def take(self, size: int) -> bytes:
        """So many bytes, which have to be there."""
        assert len(self._rest) >= size
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def number(self, size: int = 8, *, signed: bool = True) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self.take(size), "big", signed=signed)

    def sized(self) -> bytes:
        """Bytes with their length before them."""
        return self.take(self.number(4, signed=False))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._rest))

    def column(self, kind: str) -> object:
        """A column of a small table."""
        if kind == "i":
            return self.number()
        return self.sized().decode() if kind == "t" else self.sized()


def decoded(encoded: bytes) -> tuple[int, Row]:
    """The table and the columns of a row: there is one answer, so no other row is encoded like this one."""
    reader = Reader(encoded)
    table = reader.number(1)
    key = reader.number()
    row: Row
    match table:
        case 4:
            latest, deleted, deleted_at = reader.number(), reader.number(1), reader.number()
            assert deleted in {0, 1}
            assert deleted or not deleted_at
            row = (key, reader.rest(), latest, deleted_at if deleted else None)
        case 5:
            numbers = [reader.number() for _ in range(4)]
            row = (key, *numbers, reader.number(1), reader.sized(), reader.rest())
        case 1:
            assert key == 1
            row = tuple(reader.column(kind) for kind in SHAPES[1])
        case _:
            row = (key, *(reader.column(kind) for kind in SHAPES[table][1:]))
    assert reader.rest() == b""
    return table, row


@given(ROWS)
@example((4, (1, b"", 1, None)))
@example((4, (1, b"", 1, 0)))
@example((4, (1, b"", 1, -1)))
def test_an_encoding_is_of_one_row(row: tuple[int, Row]) -> None:
    """It can be taken apart again: so two rows never have the same, within a table or across."""
    table, columns = row
    assert decoded(ENCODE[table](columns)) == row


def test_a_tombstone_of_no_time_is_one() -> None:
    """Deleted at 0, or before, is deleted."""
    heads = {elements.head((1, b"a", 1, deleted_at)) for deleted_at in (None, 0, -1, 1)}
    assert len(heads) == 4


FORGED = {
    "i": (None, "", "1", b"", b"1", 1.0, 2**63, -(2**63) - 1),
    "v": (None, "", "1", b"1", 1.0, 1.5, 0, -1, 2**31),
    "o": ("", "1", b"", b"1", 0.0, 1.0, 2**63),
    "f": (),  # SQLite works it out itself
    "t": (None, b"text", 1, 1.0, "\ud800"),
    "b": (None, "text", 1, 1.0),
}
"""What a column may hold in a forged file that the agent writes into none of its kind."""

PLACES = [
    (table, place, value)
    for table, shape in SHAPES.items()
    for place, kind in enumerate(shape)
    for value in FORGED[kind]
]


@pytest.mark.parametrize("table, place, value", PLACES)
def test_another_type_has_no_encoding(table: int, place: int, value: object) -> None:
    """Each column has one type; the same bytes as another one would be another row with the same encoding."""
    sound = {"i": 1, "v": 1, "o": 1, "f": 1, "t": "text", "b": b"bytes"}
    row = [sound[kind] for kind in SHAPES[table]]
    ENCODE[table](tuple(row))
    row[place] = value
    with pytest.raises(IntegrityError, match="none that the agent writes"):
        ENCODE[table](tuple(row))
