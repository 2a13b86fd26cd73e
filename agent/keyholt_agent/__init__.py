"""The daemon of Keyholt: holds unlocked keys in locked memory and serves the operations of the wire."""

from __future__ import annotations

__version__ = "0.1.0"
