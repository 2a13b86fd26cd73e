"""Who asks, as everything behind the transport knows it, whatever brought the request here."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Principal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A peer whose transport vouches for it.

    Attributes:
        quota: what limits are counted by: equal for peers that share an allowance, such as those of a uid.
        name: what it is called in logs, such as ``uid 1000, pid 4711``; nothing is decided by it.
    """

    quota: Hashable
    name: str
