"""Requests and results by domain, one frozen dataclass each; the wire's field names are theirs.

- No field ever holds a secret: values, passphrases and keys travel in a frame's payload.
- A message that exists is well formed: names are checked as it is made, on both sides.
- Times are whole seconds since 1970-01-01 UTC. Sizes are bytes.
- Field types are ``str``, ``int``, ``bool``, ``X | None``, ``Mapping[str, str]``, ``tuple[X, ...]`` and
  messages.
"""

from __future__ import annotations

from keyholt_protocol.messages.agent import (
    HelloRequest,
    HelloResult,
    InitRequest,
    InitResult,
    LockRequest,
    LockResult,
    StatusRequest,
    StatusResult,
    UnlockRequest,
    UnlockResult,
)
from keyholt_protocol.messages.secrets import (
    DeleteRequest,
    DeleteResult,
    DestroyRequest,
    DestroyResult,
    GetRequest,
    GetResult,
    HistoryRequest,
    HistoryResult,
    ListRequest,
    ListResult,
    PutRequest,
    PutResult,
    SecretInfo,
    UndeleteRequest,
    UndeleteResult,
    VersionInfo,
)
from keyholt_protocol.messages.slots import (
    SlotAddRequest,
    SlotAddResult,
    SlotInfo,
    SlotListRequest,
    SlotListResult,
    SlotRemoveRequest,
    SlotRemoveResult,
)

__all__ = [
    "DeleteRequest",
    "DeleteResult",
    "DestroyRequest",
    "DestroyResult",
    "GetRequest",
    "GetResult",
    "HelloRequest",
    "HelloResult",
    "HistoryRequest",
    "HistoryResult",
    "InitRequest",
    "InitResult",
    "ListRequest",
    "ListResult",
    "LockRequest",
    "LockResult",
    "PutRequest",
    "PutResult",
    "SecretInfo",
    "SlotAddRequest",
    "SlotAddResult",
    "SlotInfo",
    "SlotListRequest",
    "SlotListResult",
    "SlotRemoveRequest",
    "SlotRemoveResult",
    "StatusRequest",
    "StatusResult",
    "UndeleteRequest",
    "UndeleteResult",
    "UnlockRequest",
    "UnlockResult",
    "VersionInfo",
]
