"""What a program that goes on living has left of values and passphrases once they are wiped."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

import keyholt
from tests.client.conftest import PASSPHRASE, RunningAgent, environment
from tests.support import registers
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.memory_scan import scan_process, scan_registers

SIZES: Final = (16, 48, 1024, 64 * 1024, 1024 * 1024)

# Says what it has done, a line each, and goes on when it is sent a byte.
PROGRAM: Final = """
import os, sys
import keyholt

def say(what):
    os.write(1, what.encode() + b"\\n")
    os.read(0, 1)

with keyholt.connect(sys.argv[1]) as agent:
    for path in sys.argv[2:]:
        agent.get(path).wipe()
        say("wiped " + path)
    held = [agent.get(path) for path in sys.argv[2:]]
    say("holds all")
    for secret in held:
        agent.put(secret.path + "/again", secret.view)
        secret.wipe()
    for _ in range(1000):
        agent.get(sys.argv[3]).wipe()
    say("wiped all")
    passphrase = bytearray(16)
    os.readv(0, [passphrase])
    agent.unlock(passphrase=passphrase)
    passphrase[:] = bytes(16)
    say("unlocked")
"""


@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_wiped_values_are_gone(agent: RunningAgent, path: CodePath) -> None:
    """From registers after each call, from memory after many; in between, what is held is in memory."""
    units = {f"residue/{size}": os.urandom(min(size, 1024)) for size in SIZES}
    with keyholt.connect(agent.address) as client:
        for size, (name, unit) in zip(SIZES, units.items(), strict=True):
            client.put(name, unit * (size // len(unit)))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, agent.address, *units],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment(), **path.variables},
    ) as process:
        needles = [*units.values(), PASSPHRASE]
        for name in units:
            hear(process, f"wiped {name}")
            assert scan_registers(process.pid, needles).total == 0
            tell(process, b"x")
        hear(process, "holds all")
        held = scan_process(process.pid, needles)
        assert all(held.copies[unit] for unit in units.values())
        assert not held.copies[PASSPHRASE]
        tell(process, b"x")
        for step, next_input in (("wiped all", b"x" + PASSPHRASE), ("unlocked", b"x")):
            hear(process, step)
            assert scan_registers(process.pid, needles).total == 0
            assert scan_process(process.pid, needles).total == 0
            tell(process, next_input)
    assert process.returncode == 0


def hear(process: subprocess.Popen[bytes], what: str) -> None:
    """Wait until it says that it has come so far, and then waits itself."""
    assert process.stdout is not None
    assert process.stdout.readline().decode().strip() == what
    registers.wait_blocked(process.pid)


def tell(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Let it go on."""
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
