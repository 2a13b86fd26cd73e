"""Which Keyholt this is, as installed."""

from __future__ import annotations

__all__ = ["client_version"]


def client_version() -> str:
    """The version of this installation."""
    # Imported here: it takes a quarter of the time of a command, and hardly any needs it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("keyholt")
    except PackageNotFoundError:  # run from its sources
        return "of the source tree"
