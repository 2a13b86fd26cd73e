"""``secret``: values, their versions, and what is kept beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from keyholt_protocol.errors import InvalidRequestError, TooLargeError
from keyholt_protocol.limits import MAX_PAGE, MAX_TIME, MAX_VERSION
from keyholt_protocol.names import check_labels, check_path, check_prefix

__all__ = [
    "SecretCopyRequest",
    "SecretCopyResult",
    "SecretDeleteRequest",
    "SecretDeleteResult",
    "SecretDestroyRequest",
    "SecretDestroyResult",
    "SecretGetRequest",
    "SecretGetResult",
    "SecretHistoryRequest",
    "SecretHistoryResult",
    "SecretInfo",
    "SecretListRequest",
    "SecretListResult",
    "SecretMoveRequest",
    "SecretMoveResult",
    "SecretPurgeRequest",
    "SecretPurgeResult",
    "SecretPutRequest",
    "SecretPutResult",
    "SecretUndeleteRequest",
    "SecretUndeleteResult",
    "SecretVersionInfo",
]

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


def _no_labels() -> Mapping[str, str]:
    # One for all: making a `dict[str, str]` anew takes as long as the rest of a message.
    return _NO_LABELS


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPutRequest:
    """Writes the next version of a secret; the payload is its value.

    ``if_version``: the write is refused unless this is the newest version of a live secret; 0 means that no
    live secret may be there: it was never written, or is deleted. Without it a deleted secret is written anew
    as well. ``labels``: those of this version, ``{}`` for none. ``expires``: the time from which this version
    is no longer given out as the newest: asking for the newest is then answered ``not_found``; 0 for never.
    What is absent of these two is as it was in the version before: see "What a write keeps".
    """

    path: str
    if_version: int | None = None
    labels: Mapping[str, str] | None = None
    expires: int | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_version(self.if_version, 0, "if_version")
        if self.labels is not None:
            check_labels(self.labels)
        if self.expires is not None and not 0 <= self.expires <= MAX_TIME:
            raise InvalidRequestError(
                f"expires must be 0, for never, or 1 to {MAX_TIME}, in seconds since 1970-01-01 UTC",
                details={"field": "expires"},
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPutResult:
    version: int
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretGetRequest:
    """``version``: a version of the secret; without it the newest."""

    path: str
    version: int | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_version(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretGetResult:
    """The payload is the value."""

    version: int
    created: int
    expires: int | None = None
    labels: Mapping[str, str] = field(default_factory=_no_labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretListRequest:
    """Live secrets whose path begins with ``prefix`` and comes after ``after``, in the order of the bytes of
    UTF-8, which is that of the code points.
    """

    prefix: str = ""
    after: str | None = None
    limit: int = MAX_PAGE

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        if self.after is not None:
            check_path(self.after, "after")
        _check_limit(self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """A secret without its value: its newest version.

    What a listing says is authenticated only when the value is fetched. ``expired``: the time ``expires`` has
    come, by the agent's clock. ``destroyed``: its data key is gone, and with it the value, for good. Neither
    is given out as the newest. ``damaged``: the version's metadata cannot be read; ``created`` is 0 then.
    """

    path: str
    version: int
    created: int
    expires: int | None = None
    labels: Mapping[str, str] = field(default_factory=_no_labels)
    expired: bool = False
    destroyed: bool = False
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretListResult:
    """One page, which may be empty. ``next``: pass it as ``after`` for the next one; absent on the last."""

    secrets: tuple[SecretInfo, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretHistoryRequest:
    """Versions of a secret below ``before``, newest first; deleted secrets have a history too."""

    path: str
    before: int | None = None
    limit: int = MAX_PAGE

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_version(self.before, field="before")
        _check_limit(self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersionInfo:
    """``expired``, ``destroyed`` and ``damaged``: as of a secret. An expired version is given out by its
    number.
    """

    version: int
    created: int
    expires: int | None = None
    labels: Mapping[str, str] = field(default_factory=_no_labels)
    expired: bool = False
    destroyed: bool = False
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretHistoryResult:
    """One page. ``deleted``: when the secret was. ``next``: pass it as ``before`` for the next page."""

    latest: int
    versions: tuple[SecretVersionInfo, ...]
    deleted: int | None = None
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDeleteRequest:
    """Hides a secret with all its versions until it is undeleted or written again."""

    path: str

    def __post_init__(self) -> None:
        check_path(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDeleteResult:
    """``version``: the newest version, now hidden."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUndeleteRequest:
    """Brings a deleted secret back as it was."""

    path: str

    def __post_init__(self) -> None:
        check_path(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUndeleteResult:
    """``version``: the newest version, visible again."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDestroyRequest:
    """Destroys the data key of one version: its value cannot be had again, from the disk or from anybody."""

    path: str
    version: int

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_version(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDestroyResult:
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMoveRequest:
    """Gives a secret another path, with its whole history; ``to``: where nothing was ever written.

    Versions keep their numbers, labels and expiry, destroyed ones stay destroyed, and a deleted secret stays
    deleted. At ``path`` there never was a secret then.
    """

    path: str
    to: str

    def __post_init__(self) -> None:
        check_path(self.path)
        check_path(self.to, "to")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMoveResult:
    """``version``: the newest version, at ``to`` now."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretCopyRequest:
    """Gives a secret a second path, with a copy of its whole history; ``to``: where nothing was ever written.

    As a move, but that ``path`` stays as it is. Nothing connects the two from then on: what is destroyed at
    one path is still there at the other.
    """

    path: str
    to: str

    def __post_init__(self) -> None:
        check_path(self.path)
        check_path(self.to, "to")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretCopyResult:
    """``version``: the newest version, at both paths."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPurgeRequest:
    """Erases a secret with its whole history, deleted or not: at its path there never was one then.

    ``if_version``: refused unless this is the newest version, of a deleted secret too.
    """

    path: str
    if_version: int | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_version(self.if_version, field="if_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPurgeResult:
    """``version``: what was the newest version."""

    version: int


def _check_version(version: int | None, lowest: int = 1, field: str = "version") -> None:
    if version is not None and not lowest <= version <= MAX_VERSION:
        raise InvalidRequestError(
            f"the {field} must be {lowest} to {MAX_VERSION}, not {version}", details={"field": field}
        )


def _check_limit(limit: int) -> None:
    if limit > MAX_PAGE:
        raise TooLargeError(
            f"the limit is {limit}; a page has at most {MAX_PAGE} entries",
            details={"field": "limit", "limit": MAX_PAGE},
        )
    if limit < 1:
        raise InvalidRequestError(
            f"the limit must be 1 to {MAX_PAGE}, not {limit}", details={"field": "limit"}
        )
