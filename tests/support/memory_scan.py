"""Searching another process for secrets: its memory, the registers of its threads, and cores of it.

- Any 15 bytes of a needle in a row are a copy of it, at whatever address they lie: a key is as good as its
  half, and a register holds no more than that. In registers, 8 bytes are enough.
- A scan that read next to nothing raises, and so does one of the own process, which would find its own
  needles: "0 copies" is never the answer of a scan that did not look.
- Needles come as arguments of functions, or over stdin as hex (``python -m tests.support.memory_scan``);
  never on a command line.

The target may be non-dumpable. Root reads it anyway; any other user only where the target was started by
``scannable``, whose user namespace gives the starter the right.

How it looks: memory is read as words of 8 bytes, each held against all words that occur in the needles, at
any offset of theirs. 15 bytes in a row contain a whole word of memory; of what is found, the bytes on both
sides are looked at. So a hundred needles cost as much as one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support import core_file, registers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "Scan",
    "ScanError",
    "dump_core",
    "read_process",
    "scan_contents",
    "scan_core",
    "scan_file",
    "scan_process",
    "scan_registers",
    "scannable",
]

CHUNK: Final = 64 * 1024
"""Bytes read at a time."""

NOTHING: Final = bytes(CHUNK)
"""What a chunk that was never written looks like; most of what threads reserve is of that kind."""

WORD: Final = 8

SHORTEST: Final = 2 * WORD - 1
"""Bytes. A shorter needle might lie in memory without filling a word of it."""

LEAST_DIFFERENT: Final = 4
"""Different bytes of a word that says something; others, such as zeroes, would be found everywhere."""

LEAST_READ: Final = 1024 * 1024
"""Bytes. Any Python process, and any core of one, has more than this: less means that nothing was read."""

PAGE: Final = os.sysconf("SC_PAGESIZE")


class ScanError(Exception):
    """The scan did not see what it was to search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a scan found.

    Attributes:
        copies: for each needle, the number of places that hold it or a part of it.
        places: for each needle, the address or file offset at which all of it would begin, and what is there.
        bytes_read: how much was searched.
        unreadable: the mappings that are there and refuse to be read, secret memory among them.
    """

    copies: dict[bytes, int]
    places: dict[bytes, list[str]]
    bytes_read: int
    unreadable: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Copies of all needles together."""
        return sum(self.copies.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    start: int
    end: int
    name: str


def scan_process(pid: int, needles: Sequence[bytes]) -> Scan:
    """Search all readable memory of another process, as it is now.

    Raises:
        ScanError: its memory could not be read, or it is this process.
    """
    if pid == os.getpid():
        raise ScanError("a process that scans itself finds its own needles")
    search = _Search(needles)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for mapping in _mappings(pid):
            _search_mapping(search, memory.fileno(), mapping)
    return search.result(f"process {pid}")


def read_process(pid: int) -> Iterator[bytes]:
    """All memory of another process that was ever written, in pieces of whole words."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for mapping in _mappings(pid):
            for _, data in _chunks(memory.fileno(), mapping):
                if data != NOTHING[: len(data)]:
                    yield data


def scan_registers(pid: int, needles: Sequence[bytes]) -> Scan:
    """Search the general and the vector registers of every thread of another process, as they are now.

    Raises:
        ScanError: there are none to be read.
    """
    return scan_contents(registers.read_all(pid), needles)


def scan_contents(contents: Mapping[str, bytes], needles: Sequence[bytes]) -> Scan:
    """Search the contents of registers, by name."""
    search = _Search(needles)
    for name, content in contents.items():
        search.feed(0, content, name, least=WORD)
    return search.result("the registers", least=registers.LEAST)


def scan_file(path: str | os.PathLike[str], needles: Sequence[bytes]) -> Scan:
    """Search a file that is no core, for example a database or a log."""
    search = _Search(needles)
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        _search_mapping(search, file.fileno(), _Mapping(start=0, end=size, name=os.fspath(path)))
    return search.result(os.fspath(path), least=size)


def scan_core(path: str | os.PathLike[str], needles: Sequence[bytes]) -> Scan:
    """Search a core: its memory, and the notes that hold the registers of each thread.

    Raises:
        ScanError: it is too small to be one of a Python process, or holds no vector registers.
    """
    search = _Search(needles)
    with Path(path).open("rb", buffering=0) as file:
        try:
            core = core_file.read(file)
        except core_file.NotACoreError as error:
            raise ScanError(f"{path}: {error}") from None
        for segment in core.segments:
            _search_mapping(
                search, file.fileno(), _Mapping(start=segment.start, end=segment.stop, name="memory")
            )
    for name, content in core.notes:
        search.feed(0, content, name, least=WORD)
    if not core.vector_notes:
        raise ScanError(f"{path} has no notes with vector registers")
    return search.result(os.fspath(path))


def dump_core(pid: int, directory: str | os.PathLike[str]) -> Path:
    """Have ``gcore`` (package gdb) write a core of a process, which goes on; returns the file.

    The process has to be stopped for a moment. gdb leaves out what is excluded from dumps, as the kernel
    does.

    Raises:
        ScanError: no core was written.
    """
    prefix = Path(directory) / "core"
    outcome = subprocess.run(
        ["gcore", "-o", os.fspath(prefix), str(pid)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": os.environ.get("PATH", os.defpath), "DEBUGINFOD_URLS": "", "HOME": "/nonexistent"},
    )
    core = prefix.with_name(f"core.{pid}")
    if outcome.returncode != 0 or not core.exists():
        raise ScanError(f"gcore wrote no core of {pid}: {outcome.stderr.strip()}")
    return core


def scannable(command: Sequence[str]) -> list[str]:
    """The command as it has to be started so that this user may scan it even where it is non-dumpable."""
    if os.geteuid() == 0:
        return list(command)
    return ["unshare", "--user", "--map-root-user", "--", *command]


class _Search:
    """Needles, and what was found of them so far. Places are where the whole needle would begin."""

    def __init__(self, needles: Sequence[bytes]) -> None:
        self._words: dict[int, tuple[bytes, int]] = {}
        self._found: dict[bytes, dict[int, str]] = {}
        self._bytes_read = 0
        self._unreadable: list[str] = []
        for needle in needles:
            self._add(needle)
        if not self._found:
            raise ScanError("there is nothing to search for")

    def _add(self, needle: bytes) -> None:
        words = [(needle[at : at + WORD], at) for at in range(len(needle) - WORD + 1)]
        telling = [(word, at) for word, at in words if len(set(word)) >= LEAST_DIFFERENT]
        if len(needle) < SHORTEST or not telling:
            raise ScanError(f"a needle has at least {SHORTEST} bytes that say something")
        self._found[needle] = {}
        for word, at in telling:
            self._words.setdefault(int.from_bytes(word, sys.byteorder), (needle, at))

    def feed(self, address: int, data: bytes, name: str, least: int = SHORTEST) -> None:
        """Search what lies at ``address`` for ``least`` bytes in a row, in whole words from there on.

        Where ``data`` begins or ends in between, fewer are enough.
        """
        self._bytes_read += len(data)
        if data == NOTHING[: len(data)]:
            return
        words = memoryview(data)[: len(data) // WORD * WORD].cast("Q")
        if self._words.keys().isdisjoint(words):
            return
        for index, word in enumerate(words):
            if word in self._words:
                needle, at = self._words[word]
                start = index * WORD - at
                if _in_common(data, start, needle, at) >= least:
                    self._found[needle][address + start] = name

    def refused(self, name: str) -> None:
        """A mapping could not be read, in whole or in part."""
        self._unreadable.append(name)

    def result(self, what: str, least: int = LEAST_READ) -> Scan:
        """What was found.

        Raises:
            ScanError: fewer than ``least`` bytes were read.
        """
        if self._bytes_read < least:
            raise ScanError(f"only {self._bytes_read} bytes of {what} could be read, of at least {least}")
        return Scan(
            copies={needle: len(places) for needle, places in self._found.items()},
            places={
                needle: [f"{address:#x} in {name}" for address, name in sorted(places.items())]
                for needle, places in self._found.items()
            },
            bytes_read=self._bytes_read,
            unreadable=self._unreadable,
        )


def _in_common(data: bytes, start: int, needle: bytes, at: int) -> int:
    """How many bytes in a row, as far as it matters, ``data`` shares with a needle that would begin at
    ``start``, around the word at the needle's offset ``at``.
    """
    first, last = at, at + WORD
    while last - first < SHORTEST and first > 0:
        if start + first == 0:
            return SHORTEST  # the rest would be in what is not at hand
        if data[start + first - 1] != needle[first - 1]:
            break
        first -= 1
    while last - first < SHORTEST and last < len(needle):
        if start + last == len(data):
            return SHORTEST
        if data[start + last] != needle[last]:
            break
        last += 1
    return last - first


def _mappings(pid: int) -> Iterator[_Mapping]:
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, permits, _, _, inode, *name = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split("-"))
        # What the mapping permits its owner does not matter: /proc/PID/mem reads through PROT_NONE as well.
        # But a part of a file that cannot be written to is still what the file says.
        if "w" in permits or inode == "0":
            yield _Mapping(start=start, end=end, name=name[0] if name else "[anonymous]")


def _search_mapping(search: _Search, fd: int, mapping: _Mapping) -> None:
    """Feed a mapping in chunks."""
    refused = False
    for position, data in _chunks(fd, mapping):
        search.feed(position, data, mapping.name)
        refused = refused or not data
    if refused:
        search.refused(mapping.name)


def _chunks(fd: int, mapping: _Mapping) -> Iterator[tuple[int, bytes]]:
    """What a mapping holds, with addresses; nothing for a hole that cannot be read, such as a guard page."""
    position = mapping.start
    while position < mapping.end:
        data = _read(fd, position, min(CHUNK, mapping.end - position))
        yield position, data
        position = position + len(data) if data else _next_readable(fd, position, mapping.end)


def _read(fd: int, position: int, size: int) -> bytes:
    """Up to ``size`` bytes; none where the first page is not to be read."""
    try:
        return os.pread(fd, size, position)
    except (OSError, OverflowError):
        return b""


def _next_readable(fd: int, position: int, end: int) -> int:
    """The start of the next page that may be read; ``end`` for none."""
    for page in range(position - position % PAGE + PAGE, end, PAGE):
        if _read(fd, page, 1):
            return page
    return end


def main() -> int:
    """``memory_scan process PID`` or ``memory_scan file PATH``, with needles in hex on stdin, one a line."""
    kind, target = sys.argv[1:]
    needles = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    scan = scan_process(int(target), needles) if kind == "process" else scan_file(target, needles)
    print(json.dumps({"copies": list(scan.copies.values()), "bytes_read": scan.bytes_read}))
    return 1 if scan.total else 0


if __name__ == "__main__":
    sys.exit(main())
