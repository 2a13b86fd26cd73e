"""What the store's methods on secrets do, on a real file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyholt_agent.store import (
    DeleteSecret,
    DestroyVersion,
    Head,
    HeadMovedError,
    ListSecrets,
    PutSecret,
    ReadHistory,
    SecretSummary,
    SecretVersion,
    Store,
    UndeleteSecret,
)
from keyholt_protocol.errors import AlreadyExistsError, NotFoundError
from tests.agent.store.builders import CREATED, Latest, head, listed, version


async def test_a_secret_put_is_read_back_byte_for_byte(store: Store, latest: Latest) -> None:
    """What was put comes back from the file, and is told as the latest version both times."""
    new = version(1)
    await store.ask(PutSecret(path="app/password", new=new))
    expected = SecretVersion(version=1, metadata=new.metadata, wrapped_key=new.wrapped_key, value=new.value)
    assert latest.rows == {"app/password": expected}
    latest.drop()
    assert await store.read_secret("app/password", None) == expected
    assert latest.rows == {"app/password": expected}


async def test_every_version_is_kept(store: Store, latest: Latest) -> None:
    """An older version is read by its number, and is never told to be the latest."""
    versions = [version(number) for number in (1, 2, 3)]
    for new in versions:
        await store.ask(PutSecret(path="a", new=new))
    for new in versions:
        assert (await store.read_secret("a", new.version)).value == new.value
    assert (await store.read_secret("a", None)).version == 3
    assert latest.rows["a"].version == 3


@pytest.mark.parametrize("number", [1, 2, 4, 7])
async def test_a_version_that_is_not_the_next_is_refused_with_the_head(store: Store, number: int) -> None:
    """Compare-and-set: only latest + 1 is taken, and the refusal says where the path stands."""
    await store.ask(PutSecret(path="a", new=version(1)))
    await store.ask(PutSecret(path="a", new=version(2)))
    with pytest.raises(HeadMovedError) as refused:
        await store.ask(PutSecret(path="a", new=version(number)))
    assert refused.value.newest.head == Head(latest=2, deleted_at=None)
    assert (await store.ask(ReadHistory(path="a", before=None, limit=10)))[0].latest == 2


async def test_a_first_version_other_than_1_is_refused(store: Store) -> None:
    """A path that was never written stands at 0."""
    with pytest.raises(HeadMovedError) as refused:
        await store.ask(PutSecret(path="a", new=version(2)))
    assert refused.value.newest.head == Head(latest=0, deleted_at=None) == await head(store, "a")


async def test_not_found_says_which_kind(store: Store) -> None:
    """Never written, deleted and no such version are told apart."""
    with pytest.raises(NotFoundError, match="there is no secret 'a'"):
        await store.read_secret("a", None)
    with pytest.raises(NotFoundError, match="there is no secret 'a'"):
        await store.read_secret("a", 1)
    await store.ask(PutSecret(path="a", new=version(1)))
    with pytest.raises(NotFoundError, match="no version 5; its latest is 1"):
        await store.read_secret("a", 5)
    await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    for number in (None, 1, 5):
        with pytest.raises(NotFoundError, match="was deleted"):
            await store.read_secret("a", number)


async def test_deletion_is_a_tombstone_that_can_be_taken_away(store: Store, latest: Latest) -> None:
    """Deleting hides every version and keeps them all."""
    await store.ask(PutSecret(path="a", new=version(1)))
    await store.ask(PutSecret(path="a", new=(newest := version(2))))
    assert await store.ask(DeleteSecret(path="a", deleted_at=CREATED + 5)) == 2
    assert not latest.rows
    assert (await store.ask(ListSecrets(prefix="", after=None, limit=10))).secrets == []
    found, versions = await store.ask(ReadHistory(path="a", before=None, limit=10))
    assert found == Head(latest=2, deleted_at=CREATED + 5)
    assert [entry.version for entry in versions] == [2, 1]
    assert await store.ask(UndeleteSecret(path="a")) == 2
    assert (await store.read_secret("a", None)).value == newest.value


async def test_a_put_after_a_deletion_goes_on_counting(store: Store) -> None:
    """A deleted path keeps its versions' numbers; the next put clears the tombstone."""
    await store.ask(PutSecret(path="a", new=version(1)))
    await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    with pytest.raises(HeadMovedError) as refused:
        await store.ask(PutSecret(path="a", new=version(1)))
    assert refused.value.newest.head == Head(latest=1, deleted_at=CREATED)
    await store.ask(PutSecret(path="a", new=version(2)))
    assert await head(store, "a") == Head(latest=2, deleted_at=None)


async def test_deleting_and_undeleting_what_is_not_there(store: Store) -> None:
    """Each mistake has an error of its own."""
    with pytest.raises(NotFoundError):
        await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    with pytest.raises(NotFoundError):
        await store.ask(UndeleteSecret(path="a"))
    await store.ask(PutSecret(path="a", new=version(1)))
    with pytest.raises(AlreadyExistsError, match="not deleted"):
        await store.ask(UndeleteSecret(path="a"))
    await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    with pytest.raises(NotFoundError, match="was deleted"):
        await store.ask(DeleteSecret(path="a", deleted_at=CREATED))


async def test_a_destroyed_version_keeps_its_place_and_metadata(store: Store) -> None:
    """Destroying takes key and value of one version; again, and of a deleted secret, is no error."""
    await store.ask(PutSecret(path="a", new=(first := version(1))))
    await store.ask(PutSecret(path="a", new=version(2)))
    await store.ask(DestroyVersion(path="a", version=1))
    assert await store.read_secret("a", 1) == SecretVersion(
        version=1, metadata=first.metadata, wrapped_key=None, value=None
    )
    await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    await store.ask(DestroyVersion(path="a", version=1))
    await store.ask(DestroyVersion(path="a", version=2))
    _, versions = await store.ask(ReadHistory(path="a", before=None, limit=10))
    assert [(entry.version, entry.destroyed) for entry in versions] == [(2, True), (1, True)]


async def test_the_latest_version_destroyed_is_not_kept(store: Store, latest: Latest) -> None:
    """Neither the old row nor the empty one is told to be the latest."""
    await store.ask(PutSecret(path="a", new=version(1)))
    await store.ask(DestroyVersion(path="a", version=1))
    assert not latest.rows
    assert (await store.read_secret("a", None)).destroyed
    assert not latest.rows


@pytest.mark.parametrize("path, number", [("a", 2), ("b", 1)])
async def test_destroying_what_is_not_there(store: Store, path: str, number: int) -> None:
    """An unknown path or version is not found."""
    await store.ask(PutSecret(path="a", new=version(1)))
    with pytest.raises(NotFoundError):
        await store.ask(DestroyVersion(path=path, version=number))


async def test_listing_is_by_prefix_in_code_point_order_and_paged(store: Store) -> None:
    """The order is that of code points, the prefix is literal, and pages join without gap or overlap."""
    paths = ["a/%", "a/_", "a/b", "a/é", "a/\ud7ff", "a/\ue000", "a/\U0010ffff", "a0", "b"]
    for path in reversed(paths):
        await store.ask(PutSecret(path=path, new=version(1)))
    assert sorted(paths) == paths
    assert await listed(store) == paths
    assert await listed(store, "a/") == paths[:7]
    assert await listed(store, "a/%") == ["a/%"]
    assert await listed(store, "a/\ud7ff") == ["a/\ud7ff"]
    assert await listed(store, "a/\U0010ffff") == ["a/\U0010ffff"]
    pages: list[str] = []
    while page := await listed(store, "a", after=pages[-1] if pages else None, limit=3):
        assert len(page) <= 3
        pages += page
    assert pages == paths[:8]


async def test_a_listing_has_the_latest_version_s_metadata(store: Store) -> None:
    """What a listing says of a secret is its latest version, and whether that one is destroyed."""
    await store.ask(PutSecret(path="a", new=version(1)))
    await store.ask(PutSecret(path="a", new=(latest := version(2))))
    assert (await store.ask(ListSecrets(prefix="", after=None, limit=10))).secrets == [
        SecretSummary(path="a", latest=2, metadata=latest.metadata, destroyed=False)
    ]
    await store.ask(DestroyVersion(path="a", version=2))
    (destroyed,) = (await store.ask(ListSecrets(prefix="", after=None, limit=10))).secrets
    assert destroyed.destroyed


async def test_a_history_is_paged_newest_first(store: Store) -> None:
    """``before`` and ``limit`` page through the versions."""
    for number in range(1, 8):
        await store.ask(PutSecret(path="a", new=version(number)))
    head, versions = await store.ask(ReadHistory(path="a", before=None, limit=3))
    assert head == Head(latest=7, deleted_at=None)
    assert [entry.version for entry in versions] == [7, 6, 5]
    _, versions = await store.ask(ReadHistory(path="a", before=5, limit=10))
    assert [entry.version for entry in versions] == [4, 3, 2, 1]
    with pytest.raises(NotFoundError):
        await store.ask(ReadHistory(path="b", before=None, limit=3))


async def test_statistics_count_what_there_is(store: Store) -> None:
    """Live and deleted paths, and versions."""
    for path in ("a", "b", "c"):
        await store.ask(PutSecret(path=path, new=version(1)))
    await store.ask(PutSecret(path="c", new=version(2)))
    await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    statistics = await store.statistics()
    assert (statistics.secrets, statistics.deleted, statistics.versions) == (2, 1, 4)
    assert statistics.bytes % 4096 == 0


async def test_an_unknown_master_key_is_refused_and_nothing_is_written(store: Store) -> None:
    """A version must name a master key that the store has."""
    new = version(1)
    other = replace(new, master_key_version=9)
    with pytest.raises(NotFoundError, match="master key"):
        await store.ask(PutSecret(path="a", new=other))
    assert await head(store, "a") == Head(latest=0, deleted_at=None)


async def test_a_value_of_16_mib_comes_back(store: Store) -> None:
    """The largest payload of the protocol fits."""
    await store.ask(PutSecret(path="large", new=(large := version(1, value=b"\xa5" * (16 * 1024 * 1024)))))
    assert (await store.read_secret("large", None)).value == large.value


async def test_deleted_secrets_do_not_end_a_listing(store: Store) -> None:
    """However much metadata they have: a page that came to no live one says where to go on."""
    for number in range(8):
        await store.ask(PutSecret(path=f"a/{number}", new=version(1, metadata=bytes(16_000))))
    for number in range(7):
        await store.ask(DeleteSecret(path=f"a/{number}", deleted_at=CREATED))
    found: list[str] = []
    after: str | None = None
    while True:
        page = await store.ask(ListSecrets(prefix="a/", after=after, limit=10))
        found += [entry.path for entry in page.secrets]
        if page.scanned_to is None:
            break
        after = page.scanned_to
    assert found == ["a/7"]
