"""``secret``: reading and writing secrets.

- A fetch of a cached secret is answered at once: it is decrypted into locked memory and nothing waits.
- A write that comes too late for its version is sealed anew for the next one, or refused if the caller named
  the version it builds on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from keyholt_agent.clocks import wall_time
from keyholt_agent.memory import LockedBuffer
from keyholt_agent.pipeline import AnyBinding, Call, Reply, bind
from keyholt_agent.store import (
    DeleteSecret,
    DestroyVersion,
    HeadMovedError,
    ListSecrets,
    Newest,
    PurgeSecret,
    ReadHistory,
    SecretSummary,
    UndeleteSecret,
    VersionSummary,
)
from keyholt_agent.vault.metadata import Metadata, forget_metadata
from keyholt_agent.vault.secrets import NOTHING, Base
from keyholt_protocol import operations as ops
from keyholt_protocol.errors import (
    ConflictError,
    ContentionError,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
)
from keyholt_protocol.limits import MAX_RESPONSE_HEADER, MAX_VERSION
from keyholt_protocol.messages import (
    SecretCopyRequest,
    SecretCopyResult,
    SecretDeleteRequest,
    SecretDeleteResult,
    SecretDestroyRequest,
    SecretDestroyResult,
    SecretGetRequest,
    SecretGetResult,
    SecretHistoryRequest,
    SecretHistoryResult,
    SecretInfo,
    SecretListRequest,
    SecretListResult,
    SecretMoveRequest,
    SecretMoveResult,
    SecretPurgeRequest,
    SecretPurgeResult,
    SecretPutRequest,
    SecretPutResult,
    SecretUndeleteRequest,
    SecretUndeleteResult,
    SecretVersionInfo,
)
from keyholt_protocol.names import check_path
from keyholt_protocol.usual import ENTRIES_AT_ONCE, pack_entries, pack_page

if TYPE_CHECKING:
    from keyholt_agent.services import Services
    from keyholt_agent.store import Head, Store
    from keyholt_agent.vault.relocation import Relocation
    from keyholt_agent.vault.secret_cache import FetchableSecret
    from keyholt_agent.vault.secrets import Secrets

__all__ = [
    "bindings", "copy", "delete", "destroy", "get", "history", "list_secrets", "move", "purge", "put",
    "undelete",
]  # fmt: skip

PAGE_BUDGET: Final = MAX_RESPONSE_HEADER - 2048
"""Bytes of entries in one page; the rest of the header is for what surrounds them."""

MAX_RETRIES: Final = 100
"""How often a head may move under the first in its line, by those that need not stand in it or have left."""

ENTRY_OVERHEAD: Final = 64
"""Bytes that an entry takes beside its path and its metadata, at most; the metadata as it is stored has all
the rest of it, so the size of an entry is known before it is made."""

Summary = TypeVar("Summary", SecretSummary, VersionSummary)


def bindings(services: Services) -> tuple[AnyBinding, ...]:
    """The handlers of this domain's operations, each with the part of the agent that it works with."""
    return (
        bind(ops.SECRET_PUT, put, services.secrets),
        bind(ops.SECRET_GET, get, services.secrets),
        bind(ops.SECRET_LIST, list_secrets, services.store),
        bind(ops.SECRET_HISTORY, history, services.store),
        bind(ops.SECRET_DELETE, delete, services.store),
        bind(ops.SECRET_UNDELETE, undelete, services.store),
        bind(ops.SECRET_DESTROY, destroy, services.store),
        bind(ops.SECRET_MOVE, move, services.relocation),
        bind(ops.SECRET_COPY, copy, services.relocation),
        bind(ops.SECRET_PURGE, purge, services.store),
    )


def get(
    secrets: Secrets, call: Call[SecretGetRequest]
) -> Reply[SecretGetResult] | Awaitable[Reply[SecretGetResult]]:
    """Decrypt one version of a secret."""
    request = call.request
    secret = secrets.cached(request.path, request.version)
    if secret is None:
        return _get_from_store(secrets, request)
    value = secrets.open(request.path, secret)
    if isinstance(value, LockedBuffer):
        return _reply(request, secret, value)
    return _get_later(request, secret, value)


async def _get_from_store(secrets: Secrets, request: SecretGetRequest) -> Reply[SecretGetResult]:
    secret = await secrets.read(request.path, request.version)
    value = secrets.open(request.path, secret)
    return _reply(request, secret, value if isinstance(value, LockedBuffer) else await value)


async def _get_later(
    request: SecretGetRequest, secret: FetchableSecret, opening: Awaitable[LockedBuffer]
) -> Reply[SecretGetResult]:
    return _reply(request, secret, await opening)


def _reply(request: SecretGetRequest, secret: FetchableSecret, value: LockedBuffer) -> Reply[SecretGetResult]:
    """The answer with a value, unless it has expired; owns the value."""
    if secret.expires is not None and request.version is None and secret.expires <= wall_time():
        value.release()
        raise NotFoundError(
            f"version {secret.version} of {request.path!r} has expired; put a new one, or ask for it by "
            "number"
        )
    return Reply(result=secret.result, payload=value)


def _has_expired(described: Metadata, now: int) -> bool:
    return described.expires is not None and described.expires <= now


async def put(secrets: Secrets, call: Call[SecretPutRequest]) -> Reply[SecretPutResult]:
    """Seal and write the next version of a secret; where others write it too, after whoever came before."""
    request = call.request
    base = await _assumed_base(secrets, request)
    if not secrets.contended(request.path):
        try:
            return await _put(secrets, call, base)
        except HeadMovedError as error:
            base = await _actual_base(secrets, request, error.newest)
    async with secrets.alone(request.path) as waited:
        if waited:
            base = await _assumed_base(secrets, request)
        for _ in range(MAX_RETRIES):
            try:
                return await _put(secrets, call, base)
            except HeadMovedError as error:
                base = await _actual_base(secrets, request, error.newest)
    raise ContentionError(f"too many others write {request.path!r} just now; try again")


async def _put(secrets: Secrets, call: Call[SecretPutRequest], base: Base) -> Reply[SecretPutResult]:
    """Write the version after ``base``; ``HeadMovedError`` if that is not what the path stands at."""
    request, now = call.request, wall_time()
    if base.version >= MAX_VERSION:
        raise TooLargeError(
            f"{request.path!r} has had {MAX_VERSION} versions; use another path",
            details={"field": "path", "limit": MAX_VERSION},
        )
    metadata = base.kept.followed(request.labels, request.expires, now)
    await secrets.write(request.path, base, metadata, call.body)
    return Reply(result=SecretPutResult(version=base.version + 1, created=now))


async def _assumed_base(secrets: Secrets, request: SecretPutRequest) -> Base:
    """What the write builds on, as far as can be told without asking the store, which knows better."""
    path, expected, keeps = request.path, request.if_version, _keeps(request)
    if expected == 0:
        return NOTHING
    cached = secrets.cached(path, expected)
    if cached is not None:
        return await secrets.base_in_cache(path, cached, keeps=keeps)
    if expected is None:
        return NOTHING
    if not keeps:
        return Base(expected, deleted=False, kept=NOTHING.kept)
    return await _actual_base(secrets, request, await secrets.newest(path))


async def _actual_base(secrets: Secrets, request: SecretPutRequest, newest: Newest) -> Base:
    """What the write builds on, by what the store says; a conflict if the caller meant something else."""
    _check_expected(request, newest.head)
    return await secrets.base_in_store(request.path, newest, keeps=_keeps(request))


def _keeps(request: SecretPutRequest) -> bool:
    """Whether anything is kept of the version before."""
    return request.labels is None or request.expires is None


def _check_expected(request: SecretPutRequest, head: Head) -> None:
    """A conflict if the caller meant to build on something else than what is there."""
    deleted = head.deleted_at is not None
    current = 0 if deleted else head.latest
    if request.if_version not in (None, current):
        raise ConflictError(
            f"{request.path!r} {_position(head)}; version {request.if_version} was expected",
            details={"field": "if_version", "current_version": current},
        )


def _position(head: Head) -> str:
    if head.deleted_at is not None:
        return "is deleted: undelete it, or expect version 0 to write it anew"
    if not head.latest:
        return "does not exist: expect version 0 to create it"
    return f"is at version {head.latest}: read it and decide again"


async def list_secrets(store: Store, call: Call[SecretListRequest]) -> Reply[SecretListResult]:
    """One page of live secrets."""
    request = call.request
    scan = await store.read_page(
        ListSecrets(prefix=request.prefix, after=request.after, limit=request.limit + 1)
    )
    await call.let_others()  # the store answers many such calls at once
    found, now = scan.secrets, wall_time()
    page = _page(found, request.limit)
    named = [one for one in page if _is_path(one.path)]
    entries = await _packed(call, named, lambda one: _secret_info(one, now))
    following = scan.scanned_to if scan.scanned_to and _is_path(scan.scanned_to) else None
    if named and len(page) < len(found):
        following = named[-1].path
    return Reply(
        result=pack_page(SecretListResult(secrets=(), next=following), "secrets", len(named), entries)
    )


async def history(store: Store, call: Call[SecretHistoryRequest]) -> Reply[SecretHistoryResult]:
    """One page of a secret's versions, newest first."""
    request = call.request
    head, found = await store.read_page(
        ReadHistory(path=request.path, before=request.before, limit=request.limit + 1)
    )
    await call.let_others()
    page, now = _page(found, request.limit), wall_time()
    numbered = [one for one in page if one.version]  # only damage makes others
    entries = await _packed(call, numbered, lambda one: _version_info(one, now))
    following = numbered[-1].version if numbered and len(page) < len(found) else None
    result = SecretHistoryResult(latest=head.latest, deleted=head.deleted_at, versions=(), next=following)
    return Reply(result=pack_page(result, "versions", len(numbered), entries))


async def delete(store: Store, call: Call[SecretDeleteRequest]) -> Reply[SecretDeleteResult]:
    """Hide a secret."""
    version = await store.ask(DeleteSecret(path=call.request.path, deleted_at=wall_time()))
    return Reply(result=SecretDeleteResult(version=version))


async def undelete(store: Store, call: Call[SecretUndeleteRequest]) -> Reply[SecretUndeleteResult]:
    """Show a hidden secret again."""
    return Reply(result=SecretUndeleteResult(version=await store.ask(UndeleteSecret(path=call.request.path))))


async def destroy(store: Store, call: Call[SecretDestroyRequest]) -> Reply[SecretDestroyResult]:
    """Destroy the data key of one version."""
    await store.ask(DestroyVersion(path=call.request.path, version=call.request.version))
    return Reply(result=SecretDestroyResult(version=call.request.version))


async def move(relocation: Relocation, call: Call[SecretMoveRequest]) -> Reply[SecretMoveResult]:
    """Give a secret another path."""
    return Reply(result=SecretMoveResult(version=await relocation.move(call.request.path, call.request.to)))


async def copy(relocation: Relocation, call: Call[SecretCopyRequest]) -> Reply[SecretCopyResult]:
    """Give a secret a second path."""
    return Reply(result=SecretCopyResult(version=await relocation.copy(call.request.path, call.request.to)))


async def purge(store: Store, call: Call[SecretPurgeRequest]) -> Reply[SecretPurgeResult]:
    """Erase a secret from the store."""
    path, expected = call.request.path, call.request.if_version
    try:
        version = await store.ask(PurgeSecret(path=path, latest=expected))
    except HeadMovedError as error:
        latest = error.newest.head.latest
        raise ConflictError(
            f"{path!r} is at version {latest}; version {expected} was expected: look at it and decide again",
            details={"field": "if_version", "current_version": latest},
        ) from None
    finally:
        forget_metadata()  # labels of it may be remembered, decoded
    return Reply(result=SecretPurgeResult(version=version))


def _page(found: Sequence[Summary], limit: int) -> Sequence[Summary]:
    """As many of what was found as one header holds, at least one of them and at most ``limit``."""
    room = PAGE_BUDGET
    for count, one in enumerate(found[:limit]):
        room -= len(one.metadata) + ENTRY_OVERHEAD
        if isinstance(one, SecretSummary):
            room -= len(one.path.encode(errors="surrogateescape"))
        if room < 0 and count:
            return found[:count]
    return found[:limit]


async def _packed(
    call: Call[Any], page: Sequence[Summary], describe: Callable[[Summary], SecretInfo | SecretVersionInfo]
) -> list[bytes]:
    """The entries of a page, made and packed a few at a time: others have their turn in between.

    So many take about as long as two fetches.
    """
    entries: list[bytes] = []
    for first in range(0, len(page), ENTRIES_AT_ONCE):
        entries.append(pack_entries([describe(one) for one in page[first : first + ENTRIES_AT_ONCE]]))
        await call.let_others()
    return entries


def _is_path(path: str) -> bool:
    """Whether anybody could ask for it. Only damage makes other paths, which may hold terminal controls."""
    try:
        check_path(path)
    except (InvalidRequestError, TooLargeError):
        return False
    return True


def _secret_info(summary: SecretSummary, now: int) -> SecretInfo:
    metadata, damaged = _shown(summary.metadata)
    return SecretInfo(
        path=summary.path,
        version=summary.latest,
        created=metadata.created,
        expires=metadata.expires,
        labels=metadata.labels,
        expired=_has_expired(metadata, now),
        destroyed=summary.destroyed,
        damaged=damaged,
    )


def _version_info(summary: VersionSummary, now: int) -> SecretVersionInfo:
    metadata, damaged = _shown(summary.metadata)
    return SecretVersionInfo(
        version=summary.version,
        created=metadata.created,
        expires=metadata.expires,
        labels=metadata.labels,
        expired=_has_expired(metadata, now),
        destroyed=summary.destroyed,
        damaged=damaged,
    )


def _shown(encoded: bytes) -> tuple[Metadata, bool]:
    """Metadata for a listing, and whether it is damaged, which must not hide the other entries."""
    try:
        return Metadata.decode(encoded), False
    except IntegrityError:
        return Metadata(created=0), True
