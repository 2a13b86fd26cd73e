"""The program that clears the clipboard some time after `get --clip`, unless it holds something else by then.

- It is a process of its own, started from this file, that never had the value: what it waits with is a keyed
  digest. It fetches what the clipboard holds once, at the end, to compare.
- It is told what to do on standard input, as JSON: ``seconds``, ``key`` and ``digest`` (in hex), and the
  commands ``paste`` and ``clear``.
- SIGTERM, SIGINT and SIGHUP have it clear at once.
- Nothing of the project is imported, so that it runs from wherever it lies.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import subprocess
import sys
from typing import Any, Final

__all__ = ["DIGEST_SIZE", "digest_of", "main"]

DIGEST_SIZE: Final = 32
PATIENCE: Final = 10
"""Seconds for a program of the clipboard."""

AT_ONCE: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def digest_of(value: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """By which a value is known again; without its key it says nothing of a value that could be guessed."""
    return hashlib.blake2b(value, key=key, digest_size=DIGEST_SIZE).digest()


def main() -> None:
    """Wait, compare, clear."""
    signal.pthread_sigmask(signal.SIG_BLOCK, AT_ONCE)
    task: dict[str, Any] = json.load(sys.stdin)
    signal.sigtimedwait(AT_ONCE, task["seconds"])
    held = subprocess.run(
        task["paste"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    ).stdout
    if hmac.compare_digest(digest_of(held, bytes.fromhex(task["key"])), bytes.fromhex(task["digest"])):
        subprocess.run(task["clear"], stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)


if __name__ == "__main__":
    main()
