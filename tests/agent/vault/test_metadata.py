"""What is kept beside a value comes back as it was; damage is said each time; forgetting leaves nothing."""

from __future__ import annotations

import pytest

from keyholt_agent.vault.metadata import Metadata, _decode, fetch_result, forget_metadata
from keyholt_protocol.codec import pack_header
from keyholt_protocol.errors import IntegrityError

EVERYTHING = Metadata(created=1_700_000_000, expires=1_800_000_000, labels={"team": "pay", "env": "prod"})


@pytest.mark.parametrize("metadata", [Metadata(created=0), EVERYTHING])
def test_metadata_comes_back_as_it_was_encoded(metadata: Metadata) -> None:
    """The second time from memory."""
    assert Metadata.decode(metadata.encode()) == metadata


@pytest.mark.parametrize(
    "labels,expires,now,then",
    [
        (None, None, 1, Metadata(created=1, expires=EVERYTHING.expires, labels=EVERYTHING.labels)),
        (None, None, 1_800_000_000, Metadata(created=1_800_000_000, labels=EVERYTHING.labels)),
        (None, 0, 1, Metadata(created=1, labels=EVERYTHING.labels)),
        ({}, 5, 1, Metadata(created=1, expires=5)),
        ({"a": "b"}, None, 1, Metadata(created=1, expires=EVERYTHING.expires, labels={"a": "b"})),
    ],
)
def test_what_follows_keeps_what_is_not_said(
    labels: dict[str, str] | None, expires: int | None, now: int, then: Metadata
) -> None:
    """Labels and expiry each; an expiry is kept while it is to come."""
    assert EVERYTHING.followed(labels, expires, now) == then


def test_a_fetch_is_told_when_its_version_expires() -> None:
    """So that a cached secret is refused then."""
    _, expires = fetch_result(3, EVERYTHING.encode())
    assert expires == EVERYTHING.expires


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        EVERYTHING.encode()[:-1],
        pack_header({"created": -1}),
        pack_header({"created": 2**40}),
        pack_header({"created": 1, "expires": 2**40}),
        pack_header({"created": 1, "labels": {"a\x1b": "x"}}),
        pack_header({"expires": 1}),
    ],
)
def test_damage_is_said_as_often_as_it_is_met(damaged: bytes) -> None:
    """A failure is not remembered as a success, nor lost."""
    for _ in range(2):
        with pytest.raises(IntegrityError):
            Metadata.decode(damaged)
        with pytest.raises(IntegrityError):
            fetch_result(1, damaged)


def test_forgetting_leaves_nothing() -> None:
    """Labels of a locked store are not kept in memory."""
    fetch_result(1, EVERYTHING.encode())
    forget_metadata()
    assert _decode.cache_info().currsize == 0
    assert fetch_result.cache_info().currsize == 0
