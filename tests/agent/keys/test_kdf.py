"""Argon2id: the right bytes, within bounds, at a cost that was asked for."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from argon2.low_level import Type, hash_secret_raw
from hypothesis import given
from hypothesis import strategies as st

from keyholt_agent.keys.kdf import (
    FLOOR,
    MAX_MEMORY,
    MAX_PARALLELISM,
    MAX_TIME,
    Argon2Parameters,
    calibrate,
    derive,
)
from keyholt_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyholt_agent.memory import Arena

GIB = 1024**3


def test_output_is_argon2id(arena: Arena) -> None:
    """The same bytes as the reference interface gives, for a passphrase and for an empty one."""
    for passphrase in (b"correct horse", b""):
        with arena.allocate(len(passphrase)) as given_, arena.allocate(32) as target:
            given_.view[:] = passphrase
            derive(given_.view, b"s" * 16, FLOOR, target.view)
            assert target.view == hash_secret_raw(passphrase, b"s" * 16, 3, 65536, 4, 32, Type.ID)


def test_floor_is_the_second_set_of_rfc_9106() -> None:
    """t=3, 64 MiB, p=4."""
    assert (FLOOR.time, FLOOR.memory, FLOOR.parallelism) == (3, 64 * 1024, 4)


@given(
    time=st.integers(3, MAX_TIME),
    memory=st.integers(65536, MAX_MEMORY),
    parallelism=st.integers(4, MAX_PARALLELISM),
    salt=st.binary(min_size=16, max_size=16),
)
def test_encoding_comes_back(time: int, memory: int, parallelism: int, salt: bytes) -> None:
    """All parameters within bounds, with their salt."""
    parameters = Argon2Parameters(time=time, memory=memory, parallelism=parallelism)
    assert Argon2Parameters.decode(parameters.encode(salt)) == (parameters, salt)


@pytest.mark.parametrize(
    "field, value",
    [
        ("time", 2), ("time", MAX_TIME + 1), ("time", 2**32 - 1),
        ("memory", 65535), ("memory", MAX_MEMORY + 1), ("memory", 2**32 - 1),
        ("parallelism", 3), ("parallelism", MAX_PARALLELISM + 1), ("parallelism", 0),
    ],
)  # fmt: skip
def test_stored_parameters_out_of_bounds_are_refused(field: str, value: int) -> None:
    """Above and below, before anything is derived; made by hand, it is the programmer's mistake."""
    fields = {"time": 3, "memory": 65536, "parallelism": 4, field: value}
    encoded = b"\x01" + b"".join(number.to_bytes(4, "big") for number in fields.values()) + bytes(16)
    with pytest.raises(IntegrityError, match=f"{field[0]}={value}"):
        Argon2Parameters.decode(encoded)
    with pytest.raises(ValueError, match="out of bounds"):
        replace(FLOOR, **{field: value})


def test_hostile_parameters_take_no_memory() -> None:
    """4 TiB asked for by a store: refused in a process that could not have 512 MiB more."""
    program = (
        "import resource\n"
        "from keyholt_agent.keys.kdf import Argon2Parameters\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))\n"
        "encoded = b'\\x01' + b'\\0\\0\\0\\3' + b'\\xff' * 4 + b'\\0\\0\\0\\4' + bytes(16)\n"
        "try: Argon2Parameters.decode(encoded)\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    assert run(program) == "IntegrityError"


def test_lack_of_memory_is_said() -> None:
    """A derivation whose memory cannot be had is ResourceExhaustedError, with the amount."""
    program = (
        "import resource\n"
        "from keyholt_agent.keys.kdf import FLOOR, derive\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, used + 2**25))\n"
        "try: derive(memoryview(b'p'), bytes(16), FLOOR, memoryview(bytearray(32)))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    assert run(program).startswith("ResourceExhaustedError no 64 MiB of memory")


def run(program: str) -> str:
    """What a program prints in an interpreter of its own."""
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return outcome.stdout.strip()


@pytest.mark.parametrize("encoded", [b"", bytes(28), bytes(30), b"\x02" + FLOOR.encode(bytes(16))[1:]])
def test_foreign_encodings_are_refused(encoded: bytes) -> None:
    """Wrong lengths and unknown functions."""
    with pytest.raises(IntegrityError, match="keyslot"):
        Argon2Parameters.decode(encoded)


def stopwatch(floor_takes: float) -> Callable[[], float]:
    """A clock by which the floor takes this many seconds."""
    ticks = itertools.count()
    return lambda: next(ticks) * floor_takes


@pytest.mark.parametrize(
    "target, floor_takes, available, expected",
    [
        # Memory rises first, and takes all of the factor.
        (1.0, 0.1, 16 * GIB, Argon2Parameters(time=3, memory=655360)),
        # A quarter of what is free at most, then passes.
        (1.0, 0.1, GIB, Argon2Parameters(time=7, memory=262144)),
        # 1 GiB at most, then passes.
        (10.0, 0.1, 64 * GIB, Argon2Parameters(time=18, memory=1048576)),
        # A slow machine, a full one, and no target: the floor.
        (1.0, 3.0, 16 * GIB, FLOOR),
        (0.1, 0.1, 0, FLOOR),
        # A clock that stands still does not ask for more than the bounds.
        (60.0, 0.0, 16 * GIB, Argon2Parameters(time=MAX_TIME, memory=1048576)),
    ],
)
def test_calibration(target: float, floor_takes: float, available: int, expected: Argon2Parameters) -> None:
    """Cost follows the target, within what the machine has, never below the floor."""
    assert calibrate(target, stopwatch(floor_takes), available) == expected


def test_no_target_measures_nothing() -> None:
    """The floor, without a derivation."""

    def never() -> float:
        raise AssertionError("the clock was read")

    assert calibrate(0, never, GIB) is FLOOR
