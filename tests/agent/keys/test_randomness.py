"""The kernel's randomness: keys straight into locked memory, and nonces that are given out once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from keyholt_agent.keys.randomness import KERNEL, KernelRandomness

if TYPE_CHECKING:
    from keyholt_agent.memory import Arena


def test_filled_blocks_differ(arena: Arena) -> None:
    """Filled whole, beyond the 256 bytes that the kernel gives without interruption; no two alike."""
    with arena.allocate(32) as one, arena.allocate(32) as other, arena.allocate(1000) as long:
        for block in (one, other, long):
            KERNEL.fill(block)
        assert one.view != other.view
        assert all(any(long.view[start : start + 20]) for start in range(0, 1000, 20))


def test_no_bytes_are_no_reason_to_fail(arena: Arena) -> None:
    """A block of no bytes is filled with none."""
    with arena.allocate(0) as block:
        KERNEL.fill(block)


def test_draws_differ() -> None:
    """Ids and salts of any size."""
    assert len({KERNEL.draw(16) for _ in range(100)}) == 100
    assert [len(KERNEL.draw(size)) for size in (0, 1, 16)] == [0, 1, 16]


def test_nonces_are_drawn_ahead_and_given_out_once() -> None:
    """Across the blocks in which they are drawn, twelve bytes each."""
    randomness = KernelRandomness()
    nonces = [randomness.nonce() for _ in range(1000)]
    assert len(set(nonces)) == 1000
    assert {len(nonce) for nonce in nonces} == {12}


FORKER = """
import os, sys
from keyholt_agent.keys.randomness import KERNEL
def nonces():
    return [KERNEL.nonce().hex() for _ in range(700)]
mine = nonces()
if os.fork():
    os.wait()
else:
    mine = []
sys.stdout.write(" ".join(mine + nonces()) + " ")
sys.stdout.flush()
os._exit(0)
"""


def test_nonces_of_a_forked_child_are_its_own() -> None:
    """It forgets those that its parent drew ahead."""
    done = subprocess.run([sys.executable, "-c", FORKER], capture_output=True, text=True, check=True)
    nonces = done.stdout.split()
    assert len(nonces) == len(set(nonces)) == 3 * 700
