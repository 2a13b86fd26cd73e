"""The store: secrets, keyslots and master keys in one SQLite file, as ciphertext only.

``open_store`` claims a state directory and gives a ``Store``. A call's way: ``store`` (trio), ``writer``
(the thread), ``core`` (transactions and failures), ``commands``, then ``secret_reads``, ``secret_writes``
and ``key_rows`` (SQL over ``schema``), on ``database`` (the connection) in ``home`` (the files).
"""

from __future__ import annotations

from keyholt_agent.store.errors import (
    HeadMovedError,
    SlotTableMovedError,
    StoreBusyError,
    StoreDamagedError,
    StoreForeignError,
    StoreNewerError,
    WrapLimitError,
)
from keyholt_agent.store.records import (
    Custody,
    Head,
    KeyState,
    MasterKeyRow,
    NewVersion,
    SecretSummary,
    SecretVersion,
    SlotRow,
    SlotTable,
    StoreSeed,
    StoreStatistics,
    VersionSummary,
)
from keyholt_agent.store.store import DEFAULT_CACHE_BYTES, Store, open_store

__all__ = [
    "DEFAULT_CACHE_BYTES",
    "Custody",
    "Head",
    "HeadMovedError",
    "KeyState",
    "MasterKeyRow",
    "NewVersion",
    "SecretSummary",
    "SecretVersion",
    "SlotRow",
    "SlotTable",
    "SlotTableMovedError",
    "Store",
    "StoreBusyError",
    "StoreDamagedError",
    "StoreForeignError",
    "StoreNewerError",
    "StoreSeed",
    "StoreStatistics",
    "VersionSummary",
    "WrapLimitError",
    "open_store",
]
