"""A process that derives, wraps and unwraps with locked memory, for ``test_hpke_residue`` to look at.

It says that it is at a step by a byte, and goes on when it is sent one. Its argument is ``chosen`` or
``plain``: the code that libsodium chooses for the processor, or what it has for all. Secrets come in over its
input, straight into locked memory. It works in a thread of its own, whose stack nothing else has used.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading

from keyholt_agent.keys.envelope import Header, bind
from keyholt_agent.keys.recipients import Identity, Recipient
from keyholt_agent.memory import Arena, LockedBuffer, MemorySettings
from keyholt_agent.memory.residue import clear_residue
from tests.support.hoarding import hoard

CODE = sys.argv[1]
HEADER = Header(bytes(30))
CONTEXT = bind(bytes(16), "main", b"header of the slot")

arena = Arena.open(MemorySettings(backend="memfd_secret", size=1 << 20))
secrets = [arena.allocate(size) for size in (32, 32, 64)]
ikm, ephemeral, root = secrets


class Given:
    """The ephemeral key is one that the test knows."""

    def fill(self, target: LockedBuffer) -> None:
        target.view[:] = ephemeral.view

    def nonce(self) -> bytes:
        raise NotImplementedError

    def draw(self, size: int) -> bytes:
        raise NotImplementedError


def pause(step: bytes) -> None:
    """Say where it is, and wait."""
    os.write(1, step)
    os.read(0, 1)


def operate() -> bytes:
    """Everything that is done with a keyslot's keys; gives the record."""
    with Identity(arena, ikm) as identity:
        wrapped = Recipient(arena, identity.public_key, Given()).wrap(HEADER, CONTEXT, root)
        with arena.allocate(len(root)) as target:
            identity.unwrap(wrapped, HEADER, CONTEXT, target)
            identity.confirm(bytes(16), target)
    return wrapped


def work() -> None:
    """What is looked at."""
    pause(b"1")
    wrapped = operate()
    pause(b"2")
    clear_residue()
    pause(b"3")
    os.write(1, wrapped)


class Plain(ctypes.PyDLL):
    """libsodium as it is before it looks at the processor: each function is the one for any of them."""

    sodium_init = staticmethod(lambda: 0)


if CODE == "plain":
    ctypes.PyDLL = Plain  # type: ignore[misc]
os.readv(0, [one.view for one in secrets])
hoard()
thread = threading.Thread(target=work)
thread.start()
thread.join()
