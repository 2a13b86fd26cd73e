"""The store: secrets, keyslots and master keys, as ciphertext only.

``open_store`` claims a state directory and gives a ``Store``, which is asked ``commands`` and answers with
``rows``. A command's way: ``store`` (trio), ``thread``, then the back end, which is ``sqlite``.
"""

from __future__ import annotations

from keyholt_agent.store.commands import (
    AddMasterVersion,
    CountWraps,
    CreateStore,
    DeleteSecret,
    DestroyVersion,
    ListSecrets,
    PutSecret,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    ReplaceSlotTable,
    UndeleteSecret,
)
from keyholt_agent.store.errors import (
    HeadMovedError,
    SlotTableMovedError,
    StoreBusyError,
    StoreDamagedError,
    StoreForeignError,
    StoreNewerError,
    WrapLimitError,
)
from keyholt_agent.store.rows import (
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
from keyholt_agent.store.store import Store, open_store

__all__ = [
    "AddMasterVersion",
    "CountWraps",
    "CreateStore",
    "Custody",
    "DeleteSecret",
    "DestroyVersion",
    "Head",
    "HeadMovedError",
    "KeyState",
    "ListSecrets",
    "MasterKeyRow",
    "NewVersion",
    "PutSecret",
    "ReadHistory",
    "ReadMasterKeys",
    "ReadSlotTable",
    "ReplaceSlotTable",
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
    "UndeleteSecret",
    "VersionSummary",
    "WrapLimitError",
    "open_store",
]
