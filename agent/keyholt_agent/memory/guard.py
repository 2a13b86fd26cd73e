"""What every holder of key material has in common: it cannot be copied out, and it can be wiped.

- ``Guarded`` objects refuse pickling and copying; their ``repr`` is written by each and shows no value.
- An ``Owner`` of locked memory gives it back at the end of a ``with``.
- ``wipe`` overwrites in place and makes no copy of what it overwrites.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, NoReturn, Self, SupportsIndex

__all__ = ["Guarded", "Owner", "wipe"]

_ZEROES: Final = memoryview(bytes(64 * 1024))
"""What larger buffers are overwritten with, a stretch at a time."""


class Guarded:
    """Base of the objects that hold key material: no pickle, no copy."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        # copy.copy, copy.deepcopy and pickle all end here.
        raise TypeError(f"{type(self).__name__} holds key material: it is neither copied nor pickled")


class Owner(Guarded, ABC):
    """Base of the objects that own locked memory: the end of a ``with`` is their ``release``."""

    __slots__ = ()

    @abstractmethod
    def release(self) -> None:
        """Zero the memory and give it back; again is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def wipe(view: memoryview) -> None:
    """Overwrite all of a contiguous writable view of bytes with zeroes."""
    size = len(view)
    for start in range(0, size, len(_ZEROES)):
        stretch = min(len(_ZEROES), size - start)
        view[start : start + stretch] = _ZEROES[:stretch]
