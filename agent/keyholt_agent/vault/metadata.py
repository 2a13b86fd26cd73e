"""What is kept beside a secret version's value: when it was made, when it expires, its labels.

Encoded as one msgpack map with the fields' names. It is stored in the clear and authenticated together with
the value, so that a changed one is found out when the value is opened; whoever has the disk can read it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from keyholt_protocol.codec import from_map, pack_header, to_map, unpack_header
from keyholt_protocol.errors import IntegrityError, InvalidRequestError, TooLargeError
from keyholt_protocol.limits import MAX_TIME
from keyholt_protocol.messages import SecretGetResult
from keyholt_protocol.names import check_labels
from keyholt_protocol.usual import PackedResult, pack_result

__all__ = ["Metadata", "fetch_result", "forget_metadata"]

REMEMBERED: Final = 512
"""Metadata that is remembered decoded, and as many results of fetches: secrets written together share it,
and decoding costs more than decrypting. It is no secret, and 6 MB were every one of them full of labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """``created`` and ``expires``: seconds since 1970-01-01 UTC."""

    created: int
    expires: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def encode(self) -> bytes:
        return pack_header(to_map(self))

    def followed(self, labels: Mapping[str, str] | None, expires: int | None, now: int) -> Metadata:
        """That of the version after this one, made at ``now``.

        Args:
            labels: those that it has; None: these.
            expires: when it does, 0 for never; None: when this one does, unless that has passed.
        """
        if expires is None and self.expires is not None and self.expires > now:
            expires = self.expires
        return Metadata(
            created=now, expires=expires or None, labels=self.labels if labels is None else labels
        )

    @staticmethod
    def decode(encoded: bytes) -> Metadata:
        """The metadata that ``encode`` made.

        Raises:
            IntegrityError: the bytes are no metadata.
        """
        return _decode(encoded)


@functools.lru_cache(maxsize=REMEMBERED)
def _decode(encoded: bytes) -> Metadata:
    try:
        metadata = from_map(Metadata, unpack_header(encoded))
        check_labels(metadata.labels)
        _check_time(metadata.created)
        _check_time(metadata.expires or 0)
    except (InvalidRequestError, TooLargeError):
        raise IntegrityError("the metadata of a secret is damaged; restore a backup of the store") from None
    return metadata


def _check_time(seconds: int) -> None:
    if not 0 <= seconds <= MAX_TIME:
        raise InvalidRequestError("no calendar has this time")


@functools.lru_cache(maxsize=REMEMBERED)
def fetch_result(version: int, encoded: bytes) -> tuple[PackedResult, int | None]:
    """What a fetch of a version says beside the value, as it goes on the wire, and when the version expires.

    Raises:
        IntegrityError: the bytes are no metadata.
    """
    metadata = Metadata.decode(encoded)
    result = SecretGetResult(
        version=version, created=metadata.created, expires=metadata.expires, labels=metadata.labels
    )
    return pack_result(result), metadata.expires


def forget_metadata() -> None:
    """Drop all that is remembered; locking does."""
    _decode.cache_clear()
    fetch_result.cache_clear()
