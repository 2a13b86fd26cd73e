"""``python -I -m keyholt_agent`` is ``keyholt-agent``."""

from __future__ import annotations

from keyholt_agent.start import program

program()
