"""Searching the memory of another process, and core files, for secrets.

- Every readable mapping is searched in chunks that overlap, so that no copy is missed at a seam.
- A copy is found by its first or its last 16 bytes as well: allocators overwrite the beginning of what was
  freed, and the rest of a key is as bad as the whole.
- A scan that read next to nothing raises, and so does one of the own process, which would find its own
  needles: "0 copies" is never the answer of a scan that did not look.
- Needles come as arguments of functions, or over stdin as hex (``python -m tests.support.memory_scan``);
  never on a command line.

The target may be non-dumpable. Root reads it anyway; any other user only where the target was started by
``scannable``, whose user namespace gives the starter the right.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Scan", "ScanError", "dump_core", "scan_file", "scan_process", "scannable"]

CHUNK: Final = 1024 * 1024
"""Bytes read at a time."""

NOTHING: Final = bytes(CHUNK + 64)
"""What a chunk that was never written looks like; most of what threads reserve is of that kind."""

FRAGMENT: Final = 16
"""Bytes of either end of a needle that count as a copy of it."""

SHORTEST: Final = 8
"""Bytes. A shorter needle would be found by chance, or in words that are no secret."""

LEAST_READ: Final = 1024 * 1024
"""Bytes. Any Python process, and any core of one, has more than this: less means that nothing was read."""

PAGE: Final = os.sysconf("SC_PAGESIZE")


class ScanError(Exception):
    """The scan did not see what it was to search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a scan found.

    Attributes:
        copies: for each needle, the number of places that hold it or one of its ends.
        places: for each needle, the address or file offset, and what is mapped there.
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


def scan_file(path: str | os.PathLike[str], needles: Sequence[bytes]) -> Scan:
    """Search a file, for example a core, a database or a log.

    Raises:
        ScanError: it is a core too small to be one of a Python process.
    """
    search = _Search(needles)
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        _search_mapping(search, file.fileno(), _Mapping(start=0, end=size, name=os.fspath(path)))
        file.seek(0)
        is_core = file.read(4) == b"\x7fELF"
    return search.result(os.fspath(path), least=LEAST_READ if is_core else size)


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
        if not needles or any(len(needle.strip(b"\0")) < SHORTEST for needle in needles):
            raise ScanError(f"needles have at least {SHORTEST} bytes that say something; give one or more")
        self._fragments = [
            (needle, offset, needle[offset : offset + FRAGMENT])
            for needle in needles
            for offset in {0, max(0, len(needle) - FRAGMENT)}
        ]
        self._found: dict[bytes, dict[int, str]] = {needle: {} for needle in needles}
        self._bytes_read = 0
        self._unreadable: list[str] = []

    def feed(self, address: int, data: bytes, fresh: int, name: str) -> None:
        """Search a chunk at ``address``, of which the last ``fresh`` bytes were not searched before."""
        self._bytes_read += fresh
        if data == NOTHING[: len(data)]:
            return
        for needle, offset, fragment in self._fragments:
            at = data.find(fragment)
            while at >= 0:
                self._found[needle][address + at - offset] = name
                at = data.find(fragment, at + 1)

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


def _mappings(pid: int) -> Iterator[_Mapping]:
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split("-"))
        # What the mapping permits its owner does not matter: /proc/PID/mem reads through PROT_NONE as well.
        yield _Mapping(start=start, end=end, name=name[0] if name else "[anonymous]")


def _search_mapping(search: _Search, fd: int, mapping: _Mapping) -> None:
    """Feed a mapping in chunks, each preceded by the end of the one before."""
    overlap = b""
    position = mapping.start
    refused = False
    while position < mapping.end:
        data = _read(fd, position, min(CHUNK, mapping.end - position))
        if data:
            search.feed(position - len(overlap), overlap + data, len(data), mapping.name)
            overlap = data[-(FRAGMENT - 1) :]
            position += len(data)
        else:
            # A hole, such as a guard page: nothing runs across it.
            refused, overlap = True, b""
            position = _next_readable(fd, position, mapping.end)
    if refused:
        search.refused(mapping.name)


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
