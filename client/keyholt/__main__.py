"""``python -I -m keyholt`` is ``keyholt``."""

from __future__ import annotations

from keyholt.cli.entry import program

program()
