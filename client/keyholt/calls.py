"""Every operation as a call: what to send, and what becomes of the answer. The one place that knows both.

- No I/O: an adapter sends a ``Call`` and hands its answer to ``Call.read``. What takes several calls, such as
  a listing of many pages, is a ``Plan``: a generator that yields calls and is sent their results.
- A request that the agent would refuse for its form is refused here, before anything is sent.
- A value stays in the caller's memory: a call borrows it as a ``memoryview`` until the answer has come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from keyholt.secret import Secret
from keyholt_protocol import messages as m
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.limits import MAX_PASSPHRASE, MAX_VALUE, PROTOCOL_VERSION

__all__ = [
    "Call",
    "Plan",
    "Value",
    "delete",
    "destroy",
    "get",
    "hello",
    "history",
    "init",
    "list_page",
    "list_secrets",
    "lock",
    "put",
    "slot_add",
    "slot_list",
    "slot_remove",
    "status",
    "undelete",
    "unlock",
]

T = TypeVar("T")

Value: TypeAlias = bytes | bytearray | memoryview | str
"""A value or a passphrase as callers give it; text is sent as UTF-8. Only a ``bytearray`` can be wiped
afterwards."""

Plan: TypeAlias = "Generator[Call[Any], Any, T]"
"""Calls to make one after the other, and what they come to."""

CLIENT_NAME: Final = "keyholt-python"
"""What this client calls itself in the greeting."""


class Call(NamedTuple, Generic[T]):
    """One request to make.

    Attributes:
        operation: the operation's descriptor.
        request: the request's message.
        read: makes the result from the answer's message and payload, and owns the payload from then on.
        payload: the parts of the request's payload, in order; borrowed until the answer has come.
    """

    operation: ops.Operation[Any, Any]
    request: object
    read: Callable[[Any, bytearray], T]
    payload: tuple[memoryview, ...] = ()


def hello() -> Call[m.SessionHelloResult]:
    """The first call of every connection."""
    return _call(ops.SESSION_HELLO, m.SessionHelloRequest(version=PROTOCOL_VERSION, client=CLIENT_NAME))


def init(passphrase: Value, slot: str) -> Call[m.StoreInitResult]:
    """Creates the store with its first keyslot ``slot``."""
    return _call(ops.STORE_INIT, m.StoreInitRequest(slot=slot), _passphrase(passphrase))


def status() -> Call[m.AgentStatusResult]:
    """Asks for the agent's state."""
    return _call(ops.AGENT_STATUS, m.AgentStatusRequest())


def unlock(passphrase: Value, slot: str | None) -> Call[m.AgentUnlockResult]:
    """Unlocks with the keyslot ``slot``, or with any that opens."""
    return _call(ops.AGENT_UNLOCK, m.AgentUnlockRequest(slot=slot), _passphrase(passphrase))


def lock() -> Call[m.AgentLockResult]:
    """Makes the agent forget its keys."""
    return _call(ops.AGENT_LOCK, m.AgentLockRequest())


def put(
    path: str,
    value: Value,
    *,
    if_version: int | None = None,
    labels: Mapping[str, str] | None = None,
    expires: int | datetime | None = None,
) -> Call[m.SecretPutResult]:
    """Writes the next version of a secret.

    Raises:
        InvalidRequestError: the path, a label or the time of expiry is not allowed; says why.
        TooLargeError: the value is over the limit.
    """
    request = m.SecretPutRequest(
        path=path, if_version=if_version, labels=dict(labels or {}), expires=_seconds(expires)
    )
    view = _view(value)
    if len(view) > MAX_VALUE:
        raise TooLargeError(
            f"the value has more than {MAX_VALUE} bytes, the most there can be; split it",
            details={"field": "payload", "limit": MAX_VALUE},
        )
    return _call(ops.SECRET_PUT, request, view)


def get(path: str, version: int | None = None) -> Call[Secret]:
    """Fetches one version of a secret, or the newest."""

    def read(result: m.SecretGetResult, value: bytearray) -> Secret:
        return Secret(
            value,
            path=path,
            version=result.version,
            created=result.created,
            expires=result.expires,
            labels=result.labels,
        )

    return Call(ops.SECRET_GET, m.SecretGetRequest(path=path, version=version), read)


def delete(path: str) -> Call[m.SecretDeleteResult]:
    """Hides a secret."""
    return _call(ops.SECRET_DELETE, m.SecretDeleteRequest(path=path))


def undelete(path: str) -> Call[m.SecretUndeleteResult]:
    """Brings a deleted secret back."""
    return _call(ops.SECRET_UNDELETE, m.SecretUndeleteRequest(path=path))


def destroy(path: str, version: int) -> Call[m.SecretDestroyResult]:
    """Destroys the data key of one version."""
    return _call(ops.SECRET_DESTROY, m.SecretDestroyRequest(path=path, version=version))


def list_page(prefix: str, after: str | None) -> Call[m.SecretListResult]:
    """One page of a listing, from behind the path ``after``."""
    return _call(ops.SECRET_LIST, m.SecretListRequest(prefix=prefix, after=after))


def list_secrets(prefix: str) -> Plan[list[m.SecretInfo]]:
    """All pages of a listing; each page is a moment of its own, the whole is not one snapshot."""
    found: list[m.SecretInfo] = []
    after: str | None = None
    while True:
        page: m.SecretListResult = yield list_page(prefix, after)
        found += page.secrets
        if page.next is None:
            return found
        after = page.next


def history(path: str) -> Plan[m.SecretHistoryResult]:
    """All versions of a secret, newest first."""
    versions: list[m.SecretVersionInfo] = []
    before: int | None = None
    while True:
        page: m.SecretHistoryResult = yield _call(
            ops.SECRET_HISTORY, m.SecretHistoryRequest(path=path, before=before)
        )
        versions += page.versions
        if page.next is None:
            return replace(page, versions=tuple(versions))
        before = page.next


def slot_list() -> Call[tuple[m.SlotInfo, ...]]:
    """The keyslots."""

    def read(result: m.SlotListResult, _: bytearray) -> tuple[m.SlotInfo, ...]:
        return result.slots

    return Call(ops.SLOT_LIST, m.SlotListRequest(), read)


def slot_add(name: str, existing: Value, new: Value, *, change: bool) -> Call[m.SlotAddResult]:
    """Adds a keyslot, or with ``change`` gives the one that ``existing`` opens a new passphrase."""
    old, fresh = _passphrase(existing), _passphrase(new)
    return _call(
        ops.SLOT_ADD, m.SlotAddRequest(name=name, existing_size=len(old), replace=change), old, fresh
    )


def slot_remove(name: str, passphrase: Value) -> Call[m.SlotRemoveResult]:
    """Removes a keyslot; ``passphrase`` opens one that stays."""
    return _call(ops.SLOT_REMOVE, m.SlotRemoveRequest(name=name), _passphrase(passphrase))


def _call(operation: ops.Operation[Any, T], request: object, *payload: memoryview) -> Call[T]:
    return Call(operation, request, _message, payload)


def _message(result: T, _: bytearray) -> T:
    return result


def _view(value: Value) -> memoryview:
    """The bytes of ``value`` without a copy; text has to be encoded into one."""
    return memoryview(value.encode() if isinstance(value, str) else value).cast("B")


def _passphrase(value: Value) -> memoryview:
    view = _view(value)
    if not view:
        raise InvalidRequestError("the passphrase is empty; choose one", details={"field": "payload"})
    if len(view) > MAX_PASSPHRASE:
        raise TooLargeError(
            f"the passphrase is longer than {MAX_PASSPHRASE} bytes; shorten it",
            details={"field": "payload", "limit": MAX_PASSPHRASE},
        )
    return view


def _seconds(moment: int | datetime | None) -> int | None:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise InvalidRequestError(
            "the time of expiry has no time zone; use datetime.now(timezone.utc) and the like"
        )
    return int(moment.timestamp())
