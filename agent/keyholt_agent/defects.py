"""Defects: what is kept of an exception that nobody foresaw.

Where one is met, it is logged by its place and contained: it ends the request, the connection or the piece of
work that met it. What cannot go on without what failed does not contain it, and the agent ends: the automatic
lock, the store's thread, the common wait.
"""

from __future__ import annotations

import logging
import traceback
from typing import Final, cast

__all__ = ["log_defect"]

_log: Final = logging.getLogger("keyholt.defects")


def log_defect(error: BaseException) -> None:
    """Log where a defect happened, by file, line and function; its message might repeat a peer's data."""
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            log_defect(one)
        return
    frames = traceback.extract_tb(error.__traceback__)
    places = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    _log.error("defect: %s at %s", type(error).__name__, places)
