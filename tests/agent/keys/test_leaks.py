"""What is left in memory of passphrase, keys and secrets, seen from another process.

Every needle is computed here a second time, from the documented formats and with plain library calls: so
these tests also say that a store can be opened by a program that knows nothing but the documentation.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from tests.support.memory_scan import Scan, dump_core, scan_file, scan_process, scannable

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE_ID = bytes(range(16))
SUBJECT = Path(__file__).with_name("leak_subject.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The process, what it said of itself, and what must not be found in it, by name."""

    process: subprocess.Popen[bytes]
    needles: dict[str, bytes]

    def go_on(self) -> dict[str, Any]:
        """Let it take its next step, and hear what it says."""
        tell(self.process, b"x")
        return hear(self.process)


def tell(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Send to its stdin."""
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """One line of its stdout."""
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def block_derive(root: bytes, label: bytes) -> bytes:
    """A derived key: AES-256 of two successive counter blocks."""
    return Cipher(AES256(root), ECB()).encryptor().update(label + bytes(4) + label + b"\0\0\0\1")


def open_record(key: bytes, record: bytes, path: bytes, metadata: bytes) -> bytes:
    """A record, by the field tables of ``envelope`` alone."""
    context = STORE_ID + struct.pack(">I", len(path)) + path + struct.pack(">I", len(metadata)) + metadata
    return AESGCM(key).decrypt(record[30:42], record[42:], record[:30] + context)


@pytest.fixture(params=["memfd_secret", "mlock"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of locked memory in turn."""
    return str(request.param)


@pytest.fixture
def subject(kind: str) -> Iterator[Subject]:
    """A hardened process that was unlocked and has sealed and opened a secret 2,000 times."""
    passphrase, root, secret = os.urandom(40), os.urandom(32), os.urandom(48)
    with subprocess.Popen(
        scannable([sys.executable, str(SUBJECT), kind]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        for data in (passphrase, root, secret):
            tell(process, data)
            assert hear(process) == {}
        said = hear(process)
        salt, key_id = bytes.fromhex(said["salt"]), bytes.fromhex(said["key_id"])
        wrap = block_derive(root, b"keyholt wrap")
        master = open_record(wrap, bytes.fromhex(said["master"]), b"default", key_id + b"software")
        needles = {
            "passphrase": passphrase,
            "root": root,
            "secret": secret,
            "slot key": hash_secret_raw(passphrase, salt, 3, 65536, 4, 32, Type.ID),
            "wrap": wrap,
            "slot mac": block_derive(root, b"keyholt slot"),
            "master": master,
        }
        for number, wrapped in enumerate(said["wrapped"]):
            needles[f"data key {number}"] = open_record(master, bytes.fromhex(wrapped), b"a/b", b"")
        yield Subject(process=process, needles=needles)


def found(scan: Scan, needles: dict[str, bytes]) -> dict[str, int]:
    """The copies of each needle that has any."""
    return {name: scan.copies[needle] for name, needle in needles.items() if scan.copies[needle]}


IN_ARENA = {"root": 1, "wrap": 1, "slot mac": 1, "master": 1, "data key 2": 1}
"""What an unlocked agent holds, the data key of a secret that is fetched much with it; of those that were
forgotten none is left. The fallback's pages can be read by root, secret memory cannot."""


def test_no_key_is_left_in_readable_memory_or_a_core(kind: str, subject: Subject, tmp_path: Path) -> None:
    """Unlocked, the arena has one copy of the keys in force and nothing else has any; a core and a locked
    process have none at all.

    With ``mlock`` the copies in the arena are found: the scan's positive control.
    """
    pid, needles = subject.process.pid, subject.needles
    unlocked = scan_process(pid, list(needles.values()))
    core = dump_core(pid, tmp_path)
    assert found(unlocked, needles) == ({} if kind == "memfd_secret" else IN_ARENA)
    assert subject.go_on() == {"used": 0}
    assert found(scan_process(pid, list(needles.values())), needles) == {}
    assert found(scan_file(core, list(needles.values())), needles) == {}
    # The core is one of this process: it holds what is no secret.
    assert scan_file(core, [b"keyholt_agent.keys.keyring"]).total > 0
