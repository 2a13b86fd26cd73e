"""The code paths that OpenSSL and the C library choose by the processor, each by an environment that forces
it.

Older processors are emulated by hiding what this one can do: from OpenSSL by ``OPENSSL_ia32cap``, whose
second number is leaf 7 of CPUID (OPENSSL_ia32cap(3)), from the C library by ``GLIBC_TUNABLES``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CODE_PATHS", "CodePath"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePath:
    """One of them.

    Attributes:
        name: which.
        environment: what a process is started with to take it.
        padding: bytes of a further variable. The environment lies above the stack, which it shifts.
        touches: the first so many vector registers; the processor that is emulated has no more of them, or
            nothing uses them that handles secrets.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    padding: int = 0
    touches: int = 32

    @property
    def variables(self) -> dict[str, str]:
        """The environment, padding included."""
        return {**self.environment, "PADDING": "x" * self.padding}

    def __str__(self) -> str:
        return self.name


@cache
def _has_vaes() -> bool:
    return " vaes" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


WITHOUT_VAES: Final = 25
"""AES-GCM and copying use registers 16 to 24 of AVX-512, and for more than an agent ever copies, all."""

WITHOUT_AVX_512: Final = 16

CODE_PATHS: Final = (
    CodePath(name="all", padding=0, touches=32 if _has_vaes() else WITHOUT_VAES),
    CodePath(
        name="no VAES",
        environment={"OPENSSL_ia32cap": ":~0x60000000000"},
        padding=1001,
        touches=WITHOUT_VAES,
    ),
    CodePath(
        name="no AVX-512",
        environment={
            "OPENSSL_ia32cap": ":~0x600C0030000",
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW",
        },
        padding=3010,
        touches=WITHOUT_AVX_512,
    ),
    CodePath(
        name="no leaf 7",
        environment={
            "OPENSSL_ia32cap": ":0",
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-ERMS,-FSRM",
        },
        padding=77,
        touches=WITHOUT_AVX_512,
    ),
)
