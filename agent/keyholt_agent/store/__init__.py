"""The store: secrets, keyslots and master keys, as ciphertext only.

``open_store`` claims a state directory and gives a ``Store``, which is asked ``commands`` and answers with
``rows``. A command's way: ``store`` (trio), ``thread``, then the back end, which is ``sqlite``.
"""

from __future__ import annotations

from keyholt_agent.store.commands import (
    CreateStore,
    DeleteSecret,
    DestroyVersion,
    ListSecrets,
    PutSecret,
    ReadHistory,
    UndeleteSecret,
)
from keyholt_agent.store.errors import (
    ErasureOwedError,
    HeadMovedError,
    MasterRetiredError,
    SlotTableMovedError,
    StoreBusyError,
    StoreDamagedError,
    StoreForeignError,
    StoreNewerError,
    WrapLimitError,
)
from keyholt_agent.store.key_commands import (
    AddKeyslot,
    AddMasterVersion,
    CountRetiringKeys,
    CountWraps,
    Cover,
    ReadMasterKeys,
    ReadSlotTable,
    ReadWrappedKeys,
    ReplaceRoot,
    RetireMasterVersion,
    RewrapKeys,
)
from keyholt_agent.store.rows import (
    Custody,
    Head,
    KeyState,
    MasterKeyRow,
    NewVersion,
    SecretPage,
    SecretSummary,
    SecretVersion,
    SlotRow,
    SlotTable,
    StoreSeed,
    StoreStatistics,
    VersionSummary,
    WrappedKey,
)
from keyholt_agent.store.store import Store, open_store

__all__ = [
    "AddKeyslot",
    "AddMasterVersion",
    "CountRetiringKeys",
    "CountWraps",
    "Cover",
    "CreateStore",
    "Custody",
    "DeleteSecret",
    "DestroyVersion",
    "ErasureOwedError",
    "Head",
    "HeadMovedError",
    "KeyState",
    "ListSecrets",
    "MasterKeyRow",
    "MasterRetiredError",
    "NewVersion",
    "PutSecret",
    "ReadHistory",
    "ReadMasterKeys",
    "ReadSlotTable",
    "ReadWrappedKeys",
    "ReplaceRoot",
    "RetireMasterVersion",
    "RewrapKeys",
    "SecretPage",
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
    "WrappedKey",
    "open_store",
]
