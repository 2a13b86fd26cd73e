"""The registry: every operation of Keyholt, once.

Server dispatch, what a request needs and may carry, what a client may repeat, the wire reference and the
command line's help are read from here. CONTRIBUTING.md lists what else a new operation touches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from keyholt_protocol import messages as m
from keyholt_protocol.errors import ErrorCode as E
from keyholt_protocol.limits import HELLO_OPERATION, MAX_PASSPHRASE, MAX_VALUE, PASSPHRASE_LENGTH

__all__ = ["OPERATIONS", "Needs", "Operation", "Permission"]

Request = TypeVar("Request")
Result = TypeVar("Result")


class Needs(Enum):
    """The state that an operation needs the agent to be in."""

    NOTHING = "nothing"
    STORE = "a store"
    UNLOCKED = "an unlocked agent"


class Permission(Enum):
    """What a peer must be allowed for an operation."""

    CONNECT = "connect"
    ADMINISTER = "administer"
    LIST = "list"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[Request, Result]):
    """One operation of the wire.

    Attributes:
        name: ``domain.verb``.
        summary: one sentence for the reference and the help.
        needs: the state in which it is possible.
        permission: what the peer must be allowed.
        mutates: whether it changes the store or the agent's state.
        repeatable: whether a client may send it again when the connection broke before the answer.
        payload: what the request's payload is, ``None`` if there must be none.
        payload_name: what it is called where a program passes it, such as ``passphrase``.
        max_payload: bytes of it at most.
        result_payload: what the result's payload is, ``None`` if there is none.
        paged: whether the result is a page of a listing, which may fill a header.
        errors: what it may answer, besides what any operation may, and when.
    """

    name: str
    summary: str
    request: type[Request]
    result: type[Result]
    needs: Needs
    permission: Permission
    mutates: bool
    repeatable: bool
    payload: str | None = None
    payload_name: str | None = None
    max_payload: int = 0
    result_payload: str | None = None
    paged: bool = False
    errors: Mapping[E, str] = field(default_factory=dict[E, str])

    @property
    def waits_its_turn(self) -> bool:
        """Whether its answer may be large, so that a connection gets one only when it has taken the last."""
        return self.paged or self.result_payload is not None


ANY_OPERATION: Final[Mapping[E, str]] = {
    E.INVALID_REQUEST: "the request breaks a rule of its form",
    E.UNSUPPORTED: "the agent knows no such operation",
    E.DENIED: "the peer does not have the permission",
    E.TOO_LARGE: "something is over a limit on its size or number, or never fits the agent's locked memory",
    E.RESOURCE_EXHAUSTED: "the agent has no locked memory, or other room, for it now",
    E.BUSY: "too many requests of this connection, changes of keys or writes wait already",
    E.DEADLINE_EXCEEDED: "the agent did not get it done in time",
    E.INTERNAL: "the agent has a defect",
}
"""What any operation may answer, and when."""

_STORE: Final = {
    E.UNINITIALISED: "there is no store yet",
    E.STORE_UNAVAILABLE: "the store cannot be read or written",
}
_UNLOCKED: Final = {
    **_STORE,
    E.LOCKED: "the agent is locked",
    E.INTEGRITY: "what is stored was damaged or replaced",
}
_PASSPHRASE: Final = {
    **_STORE,
    E.UNLOCK_FAILED: "the passphrase opens none of the keyslots that it may open",
    E.RATE_LIMITED: "too many passphrases of this peer opened none; `retry_after` says how long to wait",
    E.INTEGRITY: "a keyslot, or the table of them, was damaged or replaced",
}
_KEYSLOTS: Final = {
    **_PASSPHRASE,
    E.LOCKED: "the agent is locked",
    E.CONTENTION: "the keyslots were changed meanwhile",
}

SESSION_HELLO: Final = Operation(
    name=HELLO_OPERATION,
    summary="Opens a connection: the first request of each, and never a later one.",
    request=m.SessionHelloRequest,
    result=m.SessionHelloResult,
    needs=Needs.NOTHING,
    permission=Permission.CONNECT,
    mutates=False,
    repeatable=True,
)
STORE_INIT: Final = Operation(
    name="store.init",
    summary="Creates the store with its first keyslot, and leaves the agent unlocked.",
    request=m.StoreInitRequest,
    result=m.StoreInitResult,
    needs=Needs.NOTHING,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=False,
    payload="the passphrase of the first keyslot",
    payload_name="passphrase",
    max_payload=MAX_PASSPHRASE,
    errors={
        E.ALREADY_EXISTS: "there is a store already",
        E.STORE_UNAVAILABLE: _STORE[E.STORE_UNAVAILABLE],
    },
)
STORE_REKEY: Final = Operation(
    name="store.rekey",
    summary="Makes a new root key and new master keys, so that older copies of the store open nothing new.",
    request=m.StoreRekeyRequest,
    result=m.StoreRekeyResult,
    needs=Needs.UNLOCKED,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=False,
    errors={**_UNLOCKED, E.CONTENTION: _KEYSLOTS[E.CONTENTION]},
)
AGENT_STATUS: Final = Operation(
    name="agent.status",
    summary="Tells the agent's state and the health of its parts.",
    request=m.AgentStatusRequest,
    result=m.AgentStatusResult,
    needs=Needs.NOTHING,
    permission=Permission.CONNECT,
    mutates=False,
    repeatable=True,
)
AGENT_UNLOCK: Final = Operation(
    name="agent.unlock",
    summary="Unseals the root key with a keyslot.",
    request=m.AgentUnlockRequest,
    result=m.AgentUnlockResult,
    needs=Needs.STORE,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=False,
    payload="the passphrase",
    payload_name="passphrase",
    max_payload=MAX_PASSPHRASE,
    errors={
        **_PASSPHRASE,
        E.NOT_FOUND: "there is no keyslot `slot`",
        E.CONTENTION: "the agent was locked while it was being unlocked",
    },
)
AGENT_LOCK: Final = Operation(
    name="agent.lock",
    summary="Zeroes every key in memory, and drops what was cached and the values that have not left; "
    "locking a locked agent is no error.",
    request=m.AgentLockRequest,
    result=m.AgentLockResult,
    needs=Needs.STORE,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=True,
    errors={E.UNINITIALISED: _STORE[E.UNINITIALISED]},
)
SLOT_LIST: Final = Operation(
    name="slot.list",
    summary="Lists the keyslots.",
    request=m.SlotListRequest,
    result=m.SlotListResult,
    needs=Needs.STORE,
    permission=Permission.ADMINISTER,
    mutates=False,
    repeatable=True,
    errors={**_STORE, E.INTEGRITY: _PASSPHRASE[E.INTEGRITY]},
)
SLOT_ADD: Final = Operation(
    name="slot.add",
    summary="Adds a keyslot, or changes the passphrase of one.",
    request=m.SlotAddRequest,
    result=m.SlotAddResult,
    needs=Needs.UNLOCKED,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=False,
    payload="the length of the first passphrase (4 bytes, big-endian), a passphrase that opens an existing "
    "keyslot, and the new passphrase",
    payload_name="passphrases",
    max_payload=PASSPHRASE_LENGTH + 2 * MAX_PASSPHRASE,
    errors={
        **_KEYSLOTS,
        E.ALREADY_EXISTS: "there is a keyslot `name`, and `replace` is false",
        E.NOT_FOUND: "there is no keyslot `name`, and `replace` is true",
    },
)
SLOT_REMOVE: Final = Operation(
    name="slot.remove",
    summary="Removes a keyslot; the last one stays.",
    request=m.SlotRemoveRequest,
    result=m.SlotRemoveResult,
    needs=Needs.UNLOCKED,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=False,
    payload="a passphrase that opens a keyslot that stays",
    payload_name="passphrase",
    max_payload=MAX_PASSPHRASE,
    errors={
        **_KEYSLOTS,
        E.NOT_FOUND: "there is no keyslot `name`",
        E.CONFLICT: "it is the last keyslot, without which nobody could unlock the store again",
    },
)
SECRET_PUT: Final = Operation(
    name="secret.put",
    summary="Writes the next version of a secret; it is on the disk before the answer.",
    request=m.SecretPutRequest,
    result=m.SecretPutResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=False,
    payload="the value, which may be empty",
    payload_name="value",
    max_payload=MAX_VALUE,
    errors={
        **_UNLOCKED,
        E.CONFLICT: "`if_version` is not what is there; `current_version` is",
        E.CONTENTION: "too many others wrote this secret meanwhile",
    },
)
SECRET_GET: Final = Operation(
    name="secret.get",
    summary="Gives the value of a secret.",
    request=m.SecretGetRequest,
    result=m.SecretGetResult,
    needs=Needs.UNLOCKED,
    permission=Permission.READ,
    mutates=False,
    repeatable=True,
    result_payload="the value",
    errors={
        **_UNLOCKED,
        E.NOT_FOUND: "there is no such secret or version, it is deleted or destroyed, or has expired",
    },
)
SECRET_LIST: Final = Operation(
    name="secret.list",
    summary="Lists live secrets without their values, a page at a time.",
    request=m.SecretListRequest,
    result=m.SecretListResult,
    needs=Needs.UNLOCKED,
    permission=Permission.LIST,
    mutates=False,
    repeatable=True,
    paged=True,
    errors=_UNLOCKED,
)
SECRET_HISTORY: Final = Operation(
    name="secret.history",
    summary="Lists the versions of a secret, newest first, a page at a time.",
    request=m.SecretHistoryRequest,
    result=m.SecretHistoryResult,
    needs=Needs.UNLOCKED,
    permission=Permission.LIST,
    mutates=False,
    repeatable=True,
    paged=True,
    errors={**_UNLOCKED, E.NOT_FOUND: "there never was such a secret"},
)
SECRET_DELETE: Final = Operation(
    name="secret.delete",
    summary="Hides a secret behind a tombstone; undelete brings it back.",
    request=m.SecretDeleteRequest,
    result=m.SecretDeleteResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=False,
    errors={**_UNLOCKED, E.NOT_FOUND: "there is no such secret, or it is deleted already"},
)
SECRET_UNDELETE: Final = Operation(
    name="secret.undelete",
    summary="Brings a deleted secret back as it was.",
    request=m.SecretUndeleteRequest,
    result=m.SecretUndeleteResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=False,
    errors={
        **_UNLOCKED,
        E.NOT_FOUND: "there never was such a secret",
        E.ALREADY_EXISTS: "the secret is not deleted",
    },
)
SECRET_DESTROY: Final = Operation(
    name="secret.destroy",
    summary="Destroys the data key of one version, for good.",
    request=m.SecretDestroyRequest,
    result=m.SecretDestroyResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=True,
    errors={**_UNLOCKED, E.NOT_FOUND: "there is no such secret or version"},
)
_RELOCATED: Final = {
    **_UNLOCKED,
    E.NOT_FOUND: "there never was a secret at `path`",
    E.ALREADY_EXISTS: "there is a secret at `to`, or a deleted one",
    E.CONTENTION: "others wrote the secret, or the master key was replaced, meanwhile",
}
SECRET_MOVE: Final = Operation(
    name="secret.move",
    summary="Gives a secret another path, with its whole history, all at once or not at all.",
    request=m.SecretMoveRequest,
    result=m.SecretMoveResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=False,
    errors=_RELOCATED,
)
SECRET_COPY: Final = Operation(
    name="secret.copy",
    summary="Copies a secret to another path, with its whole history, all at once or not at all.",
    request=m.SecretCopyRequest,
    result=m.SecretCopyResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=False,
    errors=_RELOCATED,
)
SECRET_PURGE: Final = Operation(
    name="secret.purge",
    summary="Erases a secret with its history and its path from the store, for good.",
    request=m.SecretPurgeRequest,
    result=m.SecretPurgeResult,
    needs=Needs.UNLOCKED,
    permission=Permission.WRITE,
    mutates=True,
    repeatable=False,
    errors={
        **_UNLOCKED,
        E.NOT_FOUND: "there never was such a secret, or it is purged already",
        E.CONFLICT: "`if_version` is not the newest version; `current_version` is",
    },
)

OPERATIONS: Final[dict[str, Operation[Any, Any]]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Operation)
}
"""Every operation by its name: each descriptor of this module, in the order in which they stand."""
