"""Sizes and lengths of time for people."""

from __future__ import annotations

from typing import Final

__all__ = ["readable_size", "readable_time"]

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def readable_size(size: int) -> str:
    """Bytes for people, in binary units."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":  # noqa: PLR2004  # the step of the units
            break
        amount /= 1024
    if size == 1:
        return "1 byte"
    return f"{amount:.0f} {unit}" if amount == int(amount) else f"{amount:.1f} {unit}"


def readable_time(seconds: int) -> str:
    """A length of time for people: its two largest units."""
    parts: list[str] = []
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
