"""What Argon2 leaves of a passphrase in a process that derived a key from it: nothing that depends on it.

What the threads of its lanes work with cannot be searched for, short of doing Argon2 a second time. So it is
found out by comparing processes that were given one passphrase or another, and were equal otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.support import registers
from tests.support.memory_scan import read_process, scannable

if TYPE_CHECKING:
    from collections.abc import Iterator

DERIVER: Final = """
import dataclasses, os, sys, threading
from keyholt_agent.keys import kdf
from keyholt_agent.memory import Arena, MemorySettings

arena = Arena.open(MemorySettings(backend="memfd_secret", size=1 << 20))
passphrase, key = arena.allocate(40), arena.allocate(32)
costs = dataclasses.replace(kdf.FLOOR)
object.__setattr__(costs, "memory", 1024)  # less than the agent ever takes, for time's sake
if sys.argv[1] == "careless":
    argon2 = kdf._argon2id
    kdf._argon2id = lambda secret, *rest: 0 if secret is kdf._NOTHING else argon2(secret, *rest)

def derive():
    os.write(1, b"1")
    os.readv(0, [passphrase.view])
    kdf.derive(passphrase.view, bytes(16), costs, key.view)
    os.write(1, b"2")
    os.read(0, 1)

threading.Thread(target=derive).start()
"""

LANES_BLOCKS: Final = 4 * 1024 // 8
"""Words of the last blocks of four lanes, from which the key follows."""


class Deriver:
    """A process that derives a key from a passphrase; if ``careless``, without the derivation after it."""

    def __init__(self, kind: str, passphrase: bytes, stack: ExitStack) -> None:
        self._passphrase = passphrase
        self._process = stack.enter_context(
            subprocess.Popen(
                scannable([sys.executable, "-c", DERIVER, kind]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Dictionaries that are laid out differently would be taken for differences.
                env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"},
            )
        )
        stack.callback(self._process.kill)
        self._hear(b"1")

    def derive(self) -> None:
        """Have it derive, and wait until it is ready to be looked at."""
        assert self._process.stdin is not None
        self._process.stdin.write(self._passphrase)
        self._process.stdin.flush()
        self._hear(b"2")

    def _hear(self, what: bytes) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == what

    def words(self) -> Iterator[bytes]:
        """All that it has in memory and registers, by 8 bytes, but for counters, times and the like.

        These have zeroes, or are negative and have 0xFF, among their bytes; so has one in 16 of others.
        """
        pid = self._process.pid
        for data in (*registers.read_all(pid).values(), *read_process(pid)):
            for at in range(0, len(data) - 7, 8):
                word = data[at : at + 8]
                if 0 not in word and 0xFF not in word:
                    yield word


def test_nothing_depends_on_the_passphrase() -> None:
    """Not in registers, nor anywhere in memory, the stacks of the lanes' threads included.

    Without the derivation that comes after each, these hold the last block of every lane.
    """
    passphrase, another = os.urandom(40), os.urandom(40)
    with ExitStack() as stack:
        careless = [Deriver("careless", one, stack) for one in (passphrase, passphrase, another)]
        for one in careless:
            one.derive()
        dependent = set(careless[0].words())
        dependent.intersection_update(careless[1].words())
        dependent.difference_update(careless[2].words())
        careful = Deriver("careful", passphrase, stack)
        dependent.difference_update(careful.words())  # what is the same by chance: it has no passphrase yet
        assert len(dependent) > LANES_BLOCKS * 9 // 10
        careful.derive()
        assert dependent.intersection(careful.words()) == set()
