"""What to send for an operation, and what becomes of its answer. The one place that knows both.

- No I/O: a client sends an ``Invocation`` and hands the answer to its ``read``. What takes several, such as
  a listing of many pages, is a ``Plan``: a generator that yields invocations and is sent their results.
- Most operations need nothing but ``invocation_of``: their message is their method's parameters, and their
  result the method's. Those that offer more to programs have a function here, ``domain_verb``, whose
  parameters and docstring are the method's. The clients' methods are made from both (``make generate``).
- A request that the agent would refuse for its form is refused here, before anything is sent.
- A value stays in the caller's memory: an invocation borrows it as a ``memoryview`` until the answer has
  come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

from keyholt.arguments import buffer_of, moment_of, request_of
from keyholt.reference import is_reference, parse
from keyholt.secret import Secret
from keyholt_protocol import messages as m
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import InvalidRequestError, RemoteProtocolError, TooLargeError
from keyholt_protocol.limits import MAX_PASSPHRASE, MAX_VERSION, PASSPHRASE_LENGTH, PROTOCOL_VERSION
from keyholt_protocol.names import check_path

__all__ = [
    "Invocation",
    "Plan",
    "Value",
    "invocation_of",
    "secret_get",
    "secret_history",
    "secret_list",
    "secret_put",
    "session_hello",
    "slot_add",
    "slot_change",
    "slot_list",
]

T = TypeVar("T")

Value: TypeAlias = bytes | bytearray | memoryview | str
"""A value or a passphrase as callers give it; text is sent as UTF-8. Only a ``bytearray`` can be wiped
afterwards."""

Plan: TypeAlias = "Generator[Invocation[Any], Any, T]"
"""Invocations to make one after the other, and what they come to."""

_NO_ADVANCE: Final = "the next page is to begin where one has begun already"
"""Said of an agent whose pages would never end. It is found where the answer is read, so that the connection
is ended as it is for any other broken rule."""

CLIENT_NAME: Final = "keyholt-python"
"""What this client calls itself in the greeting."""


class Invocation(NamedTuple, Generic[T]):
    """One request to make.

    Attributes:
        operation: the operation's descriptor.
        request: the request's message.
        read: makes the result from the answer's message and payload, and owns the payload from then on.
        payload: the parts of the request's payload, in order; borrowed until the answer has come.
        convert: makes what the caller gets from that result, or refuses to: it runs in the caller's turn and
            not where the answer is read, and so may raise what is no fault of the agent's.
    """

    operation: ops.Operation[Any, Any]
    request: object
    read: Callable[[Any, bytearray], T]
    payload: tuple[memoryview, ...] = ()
    convert: Callable[[Any], T] | None = None


def invocation_of(
    operation: ops.Operation[Any, T], request: object, payload: Value | None = None
) -> Invocation[T]:
    """Of an operation whose result is its message.

    Raises:
        TypeError: the operation has a payload, and this is none.
        InvalidRequestError: the payload is a passphrase and empty, or text that UTF-8 has no form for.
        TooLargeError: the payload is over the operation's limit.
    """
    if operation.payload_name is None:
        return Invocation(operation, request, _message)
    part = _part(payload, operation.payload_name, operation.max_payload)
    return Invocation(operation, request, _message, (part,))


def session_hello() -> Invocation[m.SessionHelloResult]:
    """The first of every connection."""
    request = m.SessionHelloRequest(version=PROTOCOL_VERSION, client=CLIENT_NAME)
    return invocation_of(ops.SESSION_HELLO, request)


def secret_put(
    path: str,
    value: Value,
    *,
    if_version: int | None = None,
    labels: Mapping[str, str] | None = None,
    expires: int | datetime | timedelta | None = None,
) -> Invocation[m.SecretPutResult]:
    """Write the next version of a secret; it is on the agent's disk when this returns.

    Args:
        path: where to write.
        value: up to 16 MiB, and up to the agent's free locked memory; text is written as UTF-8.
        if_version: refuse the write unless this is the newest version; 0: unless there is none.
        labels: up to 16 short texts by name, not secret; ``{}`` for none. Left out, those of the newest
            version are kept; if that is destroyed there are none, nor an expiry, unless they are given.
        expires: from when the version is no longer given out, a time to come: a ``datetime`` with a time
            zone, a ``timedelta`` from now, or seconds since 1970-01-01 UTC; rounded up to whole seconds. 0
            for never. Left out, the newest version's is kept, unless that has expired.

    Raises:
        ConflictError: another version than ``if_version`` is the newest; read it and decide again.
        ContentionError: too many others wrote this secret meanwhile; try again.
        IntegrityError: the newest version, whose labels were to be kept, is damaged; say ``labels`` and
            ``expires`` to write all the same.
        InvalidRequestError: the path, a label or the time of expiry is not allowed, or the value is text with
            a lone surrogate; says which and why.
        TooLargeError: the value is over the limit, or never fits the agent's locked memory; store a reference
            to it instead, or raise what the message says.
        ResourceExhaustedError: the agent has no locked memory for the value now; try again.
        AgentUnreachableError: the connection broke; says whether the write may have happened.
    """
    request = request_of(
        m.SecretPutRequest,
        path=path,
        if_version=if_version,
        labels=labels,
        expires=moment_of(expires),
    )
    return invocation_of(ops.SECRET_PUT, request, value)


def secret_get(path: str, *, version: int | None = None) -> Invocation[Secret]:
    """Fetch a secret: its newest version, or the one asked for.

    Args:
        path: the secret's path, or a reference: ``keyholt://PATH``, ``keyholt://PATH?version=N``, and
            ``keyholt://PATH#FIELD`` for a field of a value that is a JSON object, see ``Secret.field``.
        version: its number, from 1; without it the newest.

    Raises:
        NotFoundError: there is no such secret, version or field; or it is deleted, destroyed or expired.
        IntegrityError: what is stored was damaged or replaced; restore a backup.
        InvalidRequestError: the reference is not well formed, or names a version beside ``version``; the
            value is no JSON object, or the field an object, a list or null.
    """
    field: str | None = None
    if isinstance(cast("object", path), str) and is_reference(path):
        path, named, field = parse(path)
        if named is not None and version is not None:
            raise InvalidRequestError("the reference names a version; leave out the other one")
        version = version if named is None else named

    def read(result: m.SecretGetResult, value: bytearray) -> Secret:
        return Secret(
            value,
            path=path,
            version=result.version,
            created=result.created,
            expires=result.expires,
            labels=result.labels,
        )

    request = request_of(m.SecretGetRequest, path=path, version=version)
    return Invocation(ops.SECRET_GET, request, read, convert=None if field is None else _part_of(field))


def _part_of(field: str) -> Callable[[Secret], Secret]:
    def convert(whole: Secret) -> Secret:
        with whole:
            return whole.field(field)

    return convert


def secret_list(prefix: str = "") -> Plan[list[m.SecretInfo]]:
    """The live secrets whose path begins with ``prefix``, in the order of their paths, without values.

    It may come in pages, each a moment of its own: it is no snapshot while others write.
    """
    found: list[m.SecretInfo] = []
    after: str | None = None

    def read(page: m.SecretListResult, _: bytearray) -> m.SecretListResult:
        if page.next is not None:
            check_path(page.next, "next")
            if after is not None and page.next <= after:
                raise RemoteProtocolError(_NO_ADVANCE)
        return page

    while True:
        request = request_of(m.SecretListRequest, prefix=prefix, after=after)
        page: m.SecretListResult = yield Invocation(ops.SECRET_LIST, request, read)
        found += page.secrets
        if page.next is None:
            return found
        after = page.next


def secret_history(path: str) -> Plan[m.SecretHistoryResult]:
    """All versions of a secret, newest first, without values; of a deleted one too."""
    versions: list[m.SecretVersionInfo] = []
    before: int | None = None

    def read(page: m.SecretHistoryResult, _: bytearray) -> m.SecretHistoryResult:
        if page.next is not None and not 0 < page.next < (before or MAX_VERSION + 1):
            raise RemoteProtocolError(_NO_ADVANCE)
        return page

    while True:
        request = request_of(m.SecretHistoryRequest, path=path, before=before)
        page: m.SecretHistoryResult = yield Invocation(ops.SECRET_HISTORY, request, read)
        versions += page.versions
        if page.next is None:
            return replace(page, versions=tuple(versions))
        before = page.next


def slot_list() -> Invocation[tuple[m.SlotInfo, ...]]:
    """The keyslots, in the order in which they are tried."""

    def read(result: m.SlotListResult, _: bytearray) -> tuple[m.SlotInfo, ...]:
        return result.slots

    return Invocation(ops.SLOT_LIST, m.SlotListRequest(), read)


def slot_add(name: str, *, existing: Value, new: Value) -> Invocation[m.SlotAddResult]:
    """Add a keyslot for the passphrase ``new``; ``existing`` opens a keyslot that is there.

    Raises:
        UnlockFailedError: ``existing`` opens none.
        RateLimitedError: too many passphrases opened none; the message says how long to wait.
        AlreadyExistsError: the name is taken.
        ContentionError: the keyslots were changed meanwhile; try again.
        IntegrityError: a keyslot, or the table of them, was damaged or replaced; restore a backup.
    """
    return _slot(name, existing, new, replace_it=False)


def slot_change(name: str, *, existing: Value, new: Value) -> Invocation[m.SlotAddResult]:
    """Give the keyslot that ``existing`` opens the passphrase ``new``.

    Raises:
        UnlockFailedError: ``existing`` does not open it.
        RateLimitedError: too many passphrases opened none; the message says how long to wait.
        NotFoundError: there is no such keyslot.
        ContentionError: the keyslots were changed meanwhile; try again.
        IntegrityError: a keyslot, or the table of them, was damaged or replaced; restore a backup.
    """
    return _slot(name, existing, new, replace_it=True)


def _slot(name: str, existing: Value, new: Value, *, replace_it: bool) -> Invocation[m.SlotAddResult]:
    old, fresh = (_part(part, "passphrase", MAX_PASSPHRASE) for part in (existing, new))
    length = memoryview(len(old).to_bytes(PASSPHRASE_LENGTH, "big"))
    request = request_of(m.SlotAddRequest, name=name, replace=replace_it)
    return Invocation(ops.SLOT_ADD, request, _message, (length, old, fresh))


def _message(result: T, _: bytearray) -> T:
    return result


def _part(value: object, name: str, limit: int) -> memoryview:
    """The bytes of a payload, or of a part of one."""
    view = buffer_of(value, name)
    if name == "passphrase" and not view:
        raise InvalidRequestError("the passphrase is empty; choose one", details={"field": "payload"})
    if len(view) > limit:
        raise TooLargeError(
            f"the {name} has more than {limit} bytes, the most there can be; shorten or split it",
            details={"field": "payload", "limit": limit},
        )
    return view
