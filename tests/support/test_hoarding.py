"""What a process has given back is found if it hoards, and hidden by what comes after it if not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.memory_scan import scan_process, scannable

SUBJECT = """
import os, sys
from tests.support.hoarding import hoard
if sys.argv[1] == "hoarding":
    hoard()
given = bytearray(32)
os.readv(0, [given])
bytes(given)
given[:] = bytes(32)
others = [bytes([number % 256]) * 32 for number in range(100)]
os.write(1, b"x")
os.read(0, 1)
"""


@pytest.mark.parametrize("kind, copies", [("hoarding", 1), ("as usual", 0)])
def test_object_that_is_gone(kind: str, copies: int) -> None:
    """One object of 32 bytes, that lived for no longer than it took to make."""
    secret = os.urandom(32)
    with subprocess.Popen(
        scannable([sys.executable, "-c", SUBJECT, kind]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(secret)
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        assert scan_process(process.pid, [secret]).copies[secret] == copies
        process.kill()
