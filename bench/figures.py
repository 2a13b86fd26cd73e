"""A figure: one number, the bound that it is held against, and how it came about; and what stands beside."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Bound", "Cost", "Figure", "Note", "Result"]


class Bound(Enum):
    """The side of the target on which a figure has to be."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report.

    Attributes:
        title: what was measured.
        bound: which way the target is to be read.
        target: what is aimed at, in ``unit``.
        value: what was reached, in ``unit``.
        unit: ``x`` for a ratio; ``s``, ``ms``, ``µs``, ``MB``, ``/s``.
        measured: the numbers behind the value.
    """

    title: str
    bound: Bound
    target: float
    value: float
    unit: str
    measured: str

    @property
    def reached(self) -> bool:
        return self.value >= self.target if self.bound is Bound.AT_LEAST else self.value <= self.target

    @property
    def target_text(self) -> str:
        return f"{self.bound.value} {_number(self.target)}{_UNITS[self.unit]}"

    @property
    def value_text(self) -> str:
        return f"{_number(self.value)}{_UNITS[self.unit]}"

    @property
    def verdict(self) -> str:
        return "reached" if self.reached else "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that is no number: ``text`` is one sentence; ``holds`` is None where nothing was claimed."""

    title: str
    text: str
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "holds", False: "DOES NOT HOLD", None: ""}[self.holds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a figure is paid for with, measured where the figure was."""

    title: str
    text: str


Result = Figure | Note | Cost

_UNITS: Final = {"x": "x", "s": " s", "ms": " ms", "µs": " µs", "MB": " MB", "/s": " a second"}


def _number(value: float) -> str:
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
