"""Argon2id, from a passphrase in locked memory to a key in locked memory.

- The floor is the second recommended set of RFC 9106, section 4: t=3, 64 MiB, p=4. No new keyslot goes
  below it, and a stored one that does is refused like any other damage.
- Parameters that come from a store are bounded above before any memory is taken, each by itself and those of
  all keyslots together (``MAX_TOGETHER``), and are held against what memory there is (``require_memory``).
- Neither the passphrase nor the output passes through a Python object: ``argon2.low_level.core`` works on
  the locked memory in place. (``hash_secret_raw`` left two copies of the passphrase.)
- ``derive`` blocks for as long as it was calibrated to: it runs in a worker thread, with the buffers kept
  by the caller until it returns.

Its working memory is ordinary memory. Argon2 wipes it when it is done. It does not wipe the stacks of the
threads that work on its lanes: each still holds the last block of its lane, and from these the key follows.
So another derivation comes after each, of nothing secret.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from argon2 import low_level

from keyholt_protocol.errors import IntegrityError, InternalError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FLOOR",
    "MAX_MEMORY",
    "MAX_TOGETHER",
    "SALT_SIZE",
    "Argon2Parameters",
    "calibrate",
    "derive",
    "require_memory",
]

SALT_SIZE: Final = 16
"""Bytes; RFC 9106, section 3.1, recommends 16 for password hashing."""

_MIN_TIME: Final = 3
_MIN_MEMORY: Final = 64 * 1024
_MIN_PARALLELISM: Final = 4

MAX_MEMORY: Final = 2 * 1024 * 1024
"""KiB (2 GiB). What a store may make the agent allocate: more than this is taken for damage."""

MAX_TIME: Final = 64
"""Passes. With ``MAX_MEMORY`` this bounds a hostile store to minutes of one thread."""

MAX_PARALLELISM: Final = 16
"""Lanes, each a thread."""

MAX_TOGETHER: Final = MAX_TIME * MAX_MEMORY
"""KiB times passes of all keyslots of a store together: what the dearest single one may cost. Whoever names
no keyslot has every one tried. 32 that were calibrated to a second take a quarter to a half of it."""

_CALIBRATION_MEMORY: Final = 1024 * 1024
"""KiB (1 GiB). A higher cost goes into memory up to this, then into passes (RFC 9106, section 4)."""

_CALIBRATION_SHARE: Final = 4
"""At most one part in this many of the memory that is free, so that unlocking never makes a machine swap."""

_ENCODED: Final = struct.Struct(">BIII16s")
_ARGON2ID_V13: Final = 1
_OUT_OF_RESOURCES: Final = (-22, -33)
"""ARGON2_MEMORY_ALLOCATION_ERROR and ARGON2_THREAD_FAIL (argon2.h)."""

_NOTHING: Final = memoryview(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Parameters:
    """The cost of one derivation. The defaults are the floor.

    Attributes:
        time: passes over the memory.
        memory: KiB.
        parallelism: lanes, each a thread.
    """

    time: int = _MIN_TIME
    memory: int = _MIN_MEMORY
    parallelism: int = _MIN_PARALLELISM

    def __post_init__(self) -> None:
        if not (
            _MIN_TIME <= self.time <= MAX_TIME
            and _MIN_MEMORY <= self.memory <= MAX_MEMORY
            and _MIN_PARALLELISM <= self.parallelism <= MAX_PARALLELISM
        ):
            raise ValueError(
                f"Argon2 parameters t={self.time}, m={self.memory} KiB, p={self.parallelism} out of bounds"
            )

    @property
    def cost(self) -> int:
        """KiB times passes: what a derivation takes is about proportional to it."""
        return self.time * self.memory

    def encode(self, salt: bytes) -> bytes:
        """The parameters of a passphrase keyslot, 29 bytes.

        =====  ===========  ==========================================
        bytes  field        meaning
        =====  ===========  ==========================================
        1      function     1: Argon2id, version 1.3
        4      time         passes
        4      memory       KiB
        4      parallelism  lanes
        16     salt         random
        =====  ===========  ==========================================
        """
        return _ENCODED.pack(_ARGON2ID_V13, self.time, self.memory, self.parallelism, salt)

    @classmethod
    def decode(cls, encoded: bytes) -> tuple[Argon2Parameters, bytes]:
        """The parameters and the salt of a passphrase keyslot.

        Raises:
            IntegrityError: not an encoding of ``encode``, or out of bounds.
        """
        if len(encoded) != _ENCODED.size:
            raise IntegrityError(f"Argon2 parameters of {len(encoded)} bytes; the keyslot is damaged")
        function, time, memory, parallelism, salt = _ENCODED.unpack(encoded)
        if function != _ARGON2ID_V13:
            raise IntegrityError(f"a keyslot names key derivation {function}, unknown to this agent")
        try:
            return cls(time=time, memory=memory, parallelism=parallelism), salt
        except ValueError as error:
            raise IntegrityError(f"{error}; the keyslot is damaged") from None


FLOOR: Final = Argon2Parameters()
"""RFC 9106, section 4, second recommended set."""


def derive(passphrase: memoryview, salt: bytes, parameters: Argon2Parameters, target: memoryview) -> None:
    """Fill ``target`` with Argon2id of a passphrase; blocks for the whole cost.

    Raises:
        ResourceExhaustedError: its memory or threads cannot be had now.
    """
    lanes = parameters.parallelism
    results = (
        _argon2id(passphrase, salt, (parameters.time, parameters.memory, lanes), target),
        # The C library gives the stacks that were freed last to the threads that are started next. As many at
        # once, in the same calls, leave the same places filled: with what anybody may know. It takes 0.7 ms,
        # with the least time and memory that Argon2 allows.
        _argon2id(_NOTHING, salt, (1, 8 * lanes, lanes), memoryview(bytearray(32))),
    )
    for result in results:
        if result in _OUT_OF_RESOURCES:
            raise ResourceExhaustedError(
                f"no {parameters.memory // 1024} MiB of memory or {lanes} threads for the key derivation; "
                f"free memory, or raise MemoryMax= and TasksMax= of the unit"
            )
        if result != 0:
            raise InternalError(f"Argon2 failed with its error {result}")


def require_memory(parameters: Argon2Parameters, available: int) -> None:
    """Refuse a derivation before it takes memory that is not there: the kernel would end the agent for it.

    Args:
        available: bytes that may be taken.

    Raises:
        ResourceExhaustedError: it is less than the derivation needs.
    """
    needed = parameters.memory * 1024
    if needed > available:
        raise ResourceExhaustedError(
            f"the key derivation needs {needed >> 20} MiB of memory, and {available >> 20} MiB are free; "
            "free memory, or raise MemoryMax= of the unit"
        )


def calibrate(target_seconds: float, clock: Callable[[], float], available_memory: int) -> Argon2Parameters:
    """Parameters that take about ``target_seconds`` on this machine, never below the floor.

    Args:
        target_seconds: seconds of one derivation; 0 asks for the floor and measures nothing.
        clock: seconds that only rise, for example ``time.perf_counter``.
        available_memory: bytes that are free on this machine.

    Raises:
        ResourceExhaustedError: not even the floor can be had now.
    """
    if target_seconds <= 0:
        return FLOOR
    began = clock()
    derive(memoryview(b"calibration"), bytes(SALT_SIZE), FLOOR, memoryview(bytearray(32)))
    factor = target_seconds / max(clock() - began, 1e-3)
    # The cost is time x memory. Memory is what hurts an attacker's hardware most, so it rises first.
    ceiling = min(_CALIBRATION_MEMORY, available_memory // 1024 // _CALIBRATION_SHARE)
    memory = max(FLOOR.memory, min(int(FLOOR.memory * factor), ceiling))
    time = int(FLOOR.time * factor * FLOOR.memory / memory)
    return Argon2Parameters(
        time=max(FLOOR.time, min(time, MAX_TIME)), memory=memory, parallelism=FLOOR.parallelism
    )


def _argon2id(passphrase: memoryview, salt: bytes, costs: tuple[int, int, int], target: memoryview) -> int:
    """The one place that touches cffi: ``argon2_ctx`` over the callers' memory, with no copy of it."""
    time, memory, lanes = costs
    argon2 = cast("Any", low_level)  # cffi makes its types at run time: there is nothing to check against.
    ffi = argon2.ffi
    # The handles keep the buffers exported, so none of them can be released before this returns.
    with (
        ffi.from_buffer("uint8_t[]", target, require_writable=True) as out,
        ffi.from_buffer("uint8_t[]", passphrase) as password,
        ffi.from_buffer("uint8_t[]", salt) as salted,
    ):
        context = ffi.new(
            "argon2_context *",
            {
                "version": argon2.ARGON2_VERSION,
                "out": out,
                "outlen": len(target),
                "pwd": password,
                "pwdlen": len(passphrase),
                "salt": salted,
                "saltlen": len(salt),
                "secret": ffi.NULL,
                "secretlen": 0,
                "ad": ffi.NULL,
                "adlen": 0,
                "t_cost": time,
                "m_cost": memory,
                "lanes": lanes,
                "threads": lanes,
                "allocate_cbk": ffi.NULL,
                "free_cbk": ffi.NULL,
                "flags": 0,
            },
        )
        return int(argon2.core(context, argon2.Type.ID.value))
