"""The kernel's randomness: keys straight into locked memory, and nonces that are given out once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from keyholt_agent.keys.randomness import KERNEL, KernelRandomness

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_nonces_are_given_out_once() -> None:
    """No two alike, twelve bytes each."""
    nonces = [KERNEL.nonce() for _ in range(1000)]
    assert len(set(nonces)) == 1000
    assert {len(nonce) for nonce in nonces} == {12}


def test_each_nonce_is_drawn_when_it_is_asked_for() -> None:
    """Nothing lies ready that a clone of the machine would give out as well."""
    drawn: list[int] = []

    def chance(size: int) -> bytes:
        drawn.append(size)
        return os.getrandom(size)

    randomness = KernelRandomness(chance)
    for count in range(1, 1000):
        randomness.nonce()
        assert drawn == [12] * count


class RepeatedDraws:
    """A kernel that repeats itself: no two draws of one are alike, and another gives the same ones."""

    def __init__(self) -> None:
        self._drawn = 0

    def __call__(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.blake2b(self._drawn.to_bytes(8, "big"), digest_size=size).digest()


def test_clones_whose_kernel_repeats_itself_seal_with_other_nonces() -> None:
    """A machine that nobody told of its cloning: the kernel draws the same, the clock does not."""

    def clone() -> KernelRandomness:
        return KernelRandomness(RepeatedDraws())

    one, other = clone(), clone()
    nonces = [source.nonce() for _ in range(1000) for source in (one, other)]
    assert len(set(nonces)) == 2000


def test_without_the_clock_clones_would_seal_with_the_same() -> None:
    """The control: with a clock that stands still, each nonce is given out by both."""
    one, other = (KernelRandomness(RepeatedDraws(), lambda: 1) for _ in range(2))
    assert [one.nonce() for _ in range(100)] == [other.nonce() for _ in range(100)]


def always(drawn: bytes) -> Callable[[int], bytes]:
    """A source that gives these bytes."""
    return lambda _: drawn


def test_every_bit_of_what_was_drawn_is_in_the_nonce() -> None:
    """The clock is mixed in and takes the place of nothing: other draws in one nanosecond, other nonces."""
    for bit in range(0, 96, 5):
        drawn = (1 << bit).to_bytes(12, "big")
        assert KernelRandomness(always(drawn), lambda: 0).nonce() == drawn


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
    """It has none that its parent drew."""
    done = subprocess.run([sys.executable, "-c", FORKER], capture_output=True, text=True, check=True)
    nonces = done.stdout.split()
    assert len(nonces) == len(set(nonces)) == 3 * 700
