"""The registry: every operation of Keyholt, once.

Server dispatch, what a request needs and may carry, what a client may repeat, the wire reference and the
command line's help are read from here. CONTRIBUTING.md lists what else a new operation touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from keyholt_protocol import messages as m
from keyholt_protocol.errors import ErrorCode as E
from keyholt_protocol.limits import HELLO_OPERATION, MAX_PASSPHRASE, MAX_PAYLOAD

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
        max_payload: bytes of it at most.
        result_payload: what the result's payload is, ``None`` if there is none.
        paged: whether the result is a page of a listing, which may fill a header.
        errors: what it may answer, besides what any operation may.
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
    max_payload: int = 0
    result_payload: str | None = None
    paged: bool = False
    errors: frozenset[E] = frozenset()

    @property
    def waits_its_turn(self) -> bool:
        """Whether its answer may be large, so that a connection gets one only when it has taken the last."""
        return self.paged or self.result_payload is not None


ANY_OPERATION: Final = frozenset(
    {
        E.INVALID_REQUEST,
        E.UNSUPPORTED,
        E.DENIED,
        E.TOO_LARGE,
        E.RESOURCE_EXHAUSTED,
        E.DEADLINE_EXCEEDED,
        E.INTERNAL,
    }
)
"""Codes that any operation may answer."""

_STORE: Final = frozenset({E.UNINITIALISED, E.STORE_UNAVAILABLE})
_UNLOCKED: Final = _STORE | {E.LOCKED, E.INTEGRITY}
_PASSPHRASE: Final = _STORE | {E.UNLOCK_FAILED, E.RATE_LIMITED, E.INTEGRITY}

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
    max_payload=MAX_PASSPHRASE,
    errors=frozenset({E.ALREADY_EXISTS, E.RATE_LIMITED, E.STORE_UNAVAILABLE}),
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
    max_payload=MAX_PASSPHRASE,
    errors=_PASSPHRASE | {E.NOT_FOUND, E.CONFLICT},
)
AGENT_LOCK: Final = Operation(
    name="agent.lock",
    summary="Zeroes every key in memory and drops what was cached; locking a locked agent is no error.",
    request=m.AgentLockRequest,
    result=m.AgentLockResult,
    needs=Needs.STORE,
    permission=Permission.ADMINISTER,
    mutates=True,
    repeatable=True,
    errors=_STORE,
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
    errors=_STORE | {E.INTEGRITY},
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
    payload="a passphrase that opens an existing keyslot, then the new passphrase",
    max_payload=2 * MAX_PASSPHRASE,
    errors=_PASSPHRASE | {E.LOCKED, E.ALREADY_EXISTS, E.NOT_FOUND},
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
    max_payload=MAX_PASSPHRASE,
    errors=_PASSPHRASE | {E.LOCKED, E.NOT_FOUND, E.CONFLICT},
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
    max_payload=MAX_PAYLOAD,
    errors=_UNLOCKED | {E.CONFLICT},
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
    errors=_UNLOCKED | {E.NOT_FOUND},
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
    errors=_UNLOCKED | {E.NOT_FOUND},
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
    errors=_UNLOCKED | {E.NOT_FOUND},
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
    errors=_UNLOCKED | {E.NOT_FOUND, E.ALREADY_EXISTS},
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
    errors=_UNLOCKED | {E.NOT_FOUND},
)

OPERATIONS: Final[dict[str, Operation[Any, Any]]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Operation)
}
"""Every operation by its name: each descriptor of this module, in the order in which they stand."""
