"""The parts of a core file that may hold secrets: memory segments, and notes with the registers of each
thread.

ELF for 64 bits (elf(5)): the header says where the program headers are, these where segments and notes are.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Core", "NotACoreError", "read"]

NT_X86_XSTATE: Final = 0x202
"""All vector registers of a thread, as the XSAVE instruction lays them out."""

_ELF_CORE: Final = 4
_PT_LOAD: Final = 1
_PT_NOTE: Final = 4
_HEADER: Final = struct.Struct("<4s12xHHIQQQIHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")
_NOTE: Final = struct.Struct("<III")


class NotACoreError(Exception):
    """The file is no core, or one that was cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """Where in the file memory lies, and what its notes hold, each with a name for messages."""

    segments: list[range]
    notes: list[tuple[str, bytes]]

    @property
    def vector_notes(self) -> list[bytes]:
        """The vector registers of each thread."""
        return [content for name, content in self.notes if name == _name(NT_X86_XSTATE)]


def read(file: BinaryIO) -> Core:
    """Take a core apart.

    Raises:
        NotACoreError: it is none.
    """
    try:
        magic, kind, _, _, _, start, _, _, _, size, count = _HEADER.unpack(file.read(_HEADER.size))
        if magic != b"\x7fELF" or kind != _ELF_CORE:
            raise NotACoreError("not a core file")
        headers = [os.pread(file.fileno(), size, start + number * size) for number in range(count)]
        parts = [_PROGRAM_HEADER.unpack_from(header) for header in headers]
    except struct.error:
        raise NotACoreError("a core file that was cut short") from None
    segments = [range(part[2], part[2] + part[5]) for part in parts if part[0] == _PT_LOAD]
    notes = [os.pread(file.fileno(), part[5], part[2]) for part in parts if part[0] == _PT_NOTE]
    return Core(segments=segments, notes=[note for content in notes for note in _notes(content)])


def _notes(content: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at + _NOTE.size <= len(content):
        name_size, size, kind = _NOTE.unpack_from(content, at)
        at += _NOTE.size + _padded(name_size)
        yield _name(kind), content[at : at + size]
        at += _padded(size)


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def _name(kind: int) -> str:
    return f"note {kind:#x}"
