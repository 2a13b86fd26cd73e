"""What deriving, wrapping and unwrapping leave behind: no more than is cleared, and in no place but those.

libsodium chooses its code by the processor, and no variable has it choose otherwise. So it is looked at with
what it chooses here, and with what it has for every processor. What is for those in between uses no register
that the first does not. The code paths of everything else are those of all such tests.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import registers
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.hpke_traces import open_traced, pair_traced
from tests.support.memory_scan import scan_process, scan_registers, scannable
from tests.support.residue import REACH, plant

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBJECT: Final = Path(__file__).with_name("hpke_residue_subject.py")

CODES: Final = ("chosen", "plain")

WRAPPED: Final = 30 + 32 + 64 + 16
"""Bytes of the record."""

INFO: Final = (
    bytes(30) + bytes(16) + struct.pack(">I", 4) + b"main" + struct.pack(">I", 18) + b"header of the slot"
)


@dataclass
class Subject:
    """The process, and the secrets that it is given: for a slot, for an ephemeral key, and to be wrapped."""

    process: subprocess.Popen[bytes]
    ikm: bytes = field(default_factory=lambda: os.urandom(32))
    ephemeral: bytes = field(default_factory=lambda: os.urandom(32))
    root: bytes = field(default_factory=lambda: os.urandom(64))
    thread: int = 0

    def begin(self) -> None:
        """Hand the secrets over, and wait until it is about to work with them."""
        self._write(self.ikm + self.ephemeral + self.root)
        self._hear(b"1")
        self.thread = max(map(int, os.listdir(f"/proc/{self.process.pid}/task")))
        registers.wait_blocked(self.thread)

    def go_on(self, step: bytes) -> None:
        """Have it come to the next step."""
        self._write(b"x")
        self._hear(step)
        registers.wait_blocked(self.thread)

    def end(self) -> bytes:
        """Let it end, and give the record that it made."""
        self._write(b"x")
        assert self.process.stdout is not None
        return self.process.stdout.read(WRAPPED)

    def found(self, needles: dict[str, bytes]) -> set[str]:
        """Which of them are in its memory or its registers."""
        wanted = list(needles.values())
        scans = (scan_process(self.process.pid, wanted), scan_registers(self.process.pid, wanted))
        return {name for name, needle in needles.items() for scan in scans if scan.places[needle]}

    def deepest(self, pattern: bytes) -> int:
        """Bytes below the stack pointer down to which a planted pattern was overwritten."""
        with registers.stopped(self.thread):
            bottom = registers.stack_pointer(self.thread) - REACH
        with Path(f"/proc/{self.process.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(bottom)
            stack = memory.read(REACH)
        whole = next(at for at in range(0, REACH, 16) if stack[at : at + 16] != pattern)
        return REACH - whole

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def _hear(self, step: bytes) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.read(1) == step


@contextmanager
def subject(path: CodePath, code: str) -> Iterator[Subject]:
    """The process, on a code path, with one or the other code of libsodium."""
    with subprocess.Popen(
        scannable([sys.executable, str(SUBJECT), code]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path), **path.variables},
    ) as process:
        yield Subject(process)
        process.kill()


def left_behind(path: CodePath, code: str) -> tuple[set[str], set[str]]:
    """What is found of keys and secrets before anything is cleared, and after it.

    Everything that operations reach was filled with a pattern before: they reach no further than is cleared,
    and of the pattern nothing is left either.
    """
    pattern = os.urandom(16)
    with subject(path, code) as one:
        one.begin()
        plant(one.process.pid, one.thread, pattern, path)
        one.go_on(b"2")
        assert 0 < one.deepest(pattern) < REACH // 2
        assert scan_process(one.process.pid, [pattern]).total > 1000
        # What is looked for follows from the record, which the process hands over in the end. So it is made a
        # second time, by a process that is given the same secrets.
        needles = traces_of(one)
        before = one.found(needles)
        one.go_on(b"3")
        assert scan_process(one.process.pid, [pattern]).total == 0
        assert scan_registers(one.process.pid, [pattern]).total == 0
        after = one.found(needles)
        one.end()
    return before, after


def traces_of(one: Subject) -> dict[str, bytes]:
    """All keys that follow from the secrets of a process, and what operations make of them."""
    with subject(CODE_PATHS[0], CODES[0]) as other:
        other.ikm, other.ephemeral, other.root = one.ikm, one.ephemeral, one.root
        other.begin()
        other.go_on(b"2")
        other.go_on(b"3")
        record = other.end()
    private, of_pair = pair_traced("the slot", one.ikm)
    ephemeral, of_ephemeral = pair_traced("the ephemeral key", one.ephemeral)
    opened, of_opening = open_traced("the record", private, record[30:], INFO)
    assert opened == one.root
    given = {"ikm": one.ikm, "ephemeral ikm": one.ephemeral, "root": one.root}
    return {**given, "private key": private, "ephemeral": ephemeral, **of_pair, **of_ephemeral, **of_opening}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_nothing_is_left(path: CodePath, code: str) -> None:
    """Of keys, what is on the way to them, and what is wrapped; nor of anything else that was there.

    Without clearing there is something: with AVX2 what was wrapped, in registers, and with the code for every
    processor the key that wrapped it, on the stack.
    """
    before, after = left_behind(path, code)
    assert after == set()
    assert before
