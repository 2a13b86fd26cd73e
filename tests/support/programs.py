"""The installed programs, as users start them: the ones beside this interpreter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

__all__ = ["KEYHOLT", "KEYHOLT_AGENT", "SOURCES"]

KEYHOLT: Final = str(Path(sys.executable).with_name("keyholt"))
KEYHOLT_AGENT: Final = str(Path(sys.executable).with_name("keyholt-agent"))

SOURCES: Final = {KEYHOLT: "client/bin/keyholt", KEYHOLT_AGENT: "agent/bin/keyholt-agent"}
"""The file of the project that each is a copy of."""
