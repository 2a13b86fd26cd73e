"""Why the store says no.

::

    StoreUnavailableError             (keyholt_protocol) cannot be read or written just now
    ├── StoreBusyError                another agent has it
    ├── StoreNewerError               written by a newer Keyholt
    ├── StoreForeignError             not a Keyholt store
    ├── ErasureOwedError              done, but for the erasing of what was replaced
    └── StoreDamagedError             a Keyholt store, but not a whole one
    ConflictError                     (keyholt_protocol)
    ├── HeadMovedError                a path's latest version is not the expected one
    └── WrapLimitError                a master key version may not wrap that often
    ContentionError                   (keyholt_protocol)
    ├── SlotTableMovedError           the keyslots are not the ones that were read
    └── MasterRetiredError            a master key version is not the active one any more

What a back end meets of its own libraries' errors it turns into these.
"""

from __future__ import annotations

from keyholt_agent.store.rows import Newest
from keyholt_protocol.errors import ConflictError, ContentionError, StoreUnavailableError

__all__ = [
    "ErasureOwedError",
    "HeadMovedError",
    "MasterRetiredError",
    "SlotTableMovedError",
    "StoreBusyError",
    "StoreDamagedError",
    "StoreForeignError",
    "StoreNewerError",
    "WrapLimitError",
]


class StoreBusyError(StoreUnavailableError):
    """Another process holds the store; stop it, or give this agent a directory of its own."""


class StoreNewerError(StoreUnavailableError):
    """The store's format is newer than this program; run the newer one."""

    retryable = False


class StoreForeignError(StoreUnavailableError):
    """The file is not a Keyholt store; point the agent elsewhere."""

    retryable = False


class StoreDamagedError(StoreUnavailableError):
    """The store is incomplete or its structure is broken; restore a backup."""

    retryable = False


class ErasureOwedError(StoreUnavailableError):
    """It is done and in force, but there was no room to clear the log of what it took away."""

    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "it is done, and gone from the store, but its log has it still, or unused parts of the file: "
            "free some disk space, and it is gone from there as well"
        )


class HeadMovedError(ConflictError):
    """Somebody wrote first: decide again from ``newest``."""

    def __init__(self, path: str, newest: Newest) -> None:
        super().__init__(
            f"the latest version of {path!r} is {newest.head.latest}; decide again from that one"
        )
        self.newest = newest


class SlotTableMovedError(ContentionError):
    """The keyslots changed since they were read; read them again."""


class MasterRetiredError(ContentionError):
    """The master key version that wrapped is not active any more; wrap with the one that is."""


class WrapLimitError(ConflictError):
    """The master key version has no wraps left; rotate it."""
