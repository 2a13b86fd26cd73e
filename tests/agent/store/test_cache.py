"""The ciphertext cache: its bound, and the order of its effects."""

from __future__ import annotations

import tracemalloc
from queue import SimpleQueue
from typing import TYPE_CHECKING

import trio

from keyholt_agent.store import DeleteSecret, PutSecret, SecretVersion, Store, open_store
from keyholt_agent.store.cache import SecretCache, settle
from keyholt_agent.store.commands import AnyCommand, ReadSecret
from tests.agent.store.builders import CREATED, started, version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def record(number: int = 1, size: int = 106) -> SecretVersion:
    """A record as a read would give it."""
    return SecretVersion(version=number, metadata=bytes(60), wrapped_key=bytes(90), value=bytes(size))


def test_the_bound_holds_and_the_least_recently_used_go_first() -> None:
    """A record that was asked for outlives older and newer ones that were not."""
    cache = SecretCache(8_000)
    for index in range(100):
        cache.keep(f"path/{index}", record())
        assert cache.size <= 8_000
        assert cache.get("path/0", None) is not None
    assert cache.get("path/99", None) is not None
    assert cache.get("path/1", None) is None
    for index in range(100):
        cache.evict(f"path/{index}")
    assert (len(cache), cache.size) == (0, 0)


def test_a_record_too_large_is_not_kept_and_its_predecessor_goes() -> None:
    """One big record does not push out the others, nor does the version before it stay."""
    cache = SecretCache(10_000)
    cache.keep("small", record())
    cache.keep("large", record(1))
    cache.keep("large", record(2, size=5_000))
    assert cache.get("large", None) is None
    assert cache.get("small", None) is not None


def test_the_accounting_is_what_python_spends() -> None:
    """The bytes counted are within a tenth of the bytes allocated."""
    cache = SecretCache(1 << 30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(20_000):
            cache.keep(f"application/{index}/password", record(index))
        spent = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.9 < cache.size / spent < 1.1


def deliver(cache: SecretCache, done: list[tuple[AnyCommand, object]]) -> None:
    """Settle commands in the order given."""
    for command, result in done:
        settle(cache, command, result, recent=True)


def test_effects_in_the_store_s_order_leave_the_newest() -> None:
    """A read of version 1 that ran before a put of version 2 does not cover it, nor a deletion."""
    new = version(2)
    written = SecretVersion(version=2, metadata=new.metadata, wrapped_key=new.wrapped_key, value=new.value)
    read = (ReadSecret(path="a", version=None), record(1))
    put = (PutSecret(path="a", new=new), written)
    delete = (DeleteSecret(path="a", deleted_at=CREATED), 2)
    cache = SecretCache(10_000)
    deliver(cache, [read, put])
    assert cache.get("a", None) == written
    deliver(cache, [read, put, delete])
    assert cache.get("a", None) is None
    # The positive control: another order leaves a stale record, so the order is what matters.
    deliver(cache, [put, read])
    assert cache.get("a", None) == record(1)
    deliver(cache, [delete, read])
    assert cache.get("a", None) == record(1)


class HeldToken:
    """Stands between the store's thread and trio: keeps what is to be delivered until it is released."""

    def __init__(self) -> None:
        self._deliveries: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def run_sync_soon(self, call: Callable[[], None]) -> None:
        self._deliveries.put(call)

    async def release(self, count: int) -> None:
        """Wait for so many deliveries, then make them all, before any task gets to run."""
        held = [await trio.to_thread.run_sync(self._deliveries.get) for _ in range(count)]
        for call in held:
            call()


async def race(store: Store, read: Callable[[], Awaitable[None]]) -> SecretVersion | None:
    """Read version 1 while 2 is written, both answered before a task wakes; what is cached then."""
    await store.ask(PutSecret(path="a", new=version(1)))
    store.drop_cache()
    thread = store._thread
    token, held = thread._token, HeldToken()
    thread._token = held  # type: ignore[assignment]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await started()
            nursery.start_soon(store.ask, PutSecret(path="a", new=version(2)))
            await started()
            await held.release(2)
    finally:
        thread._token = token
    return store.cached_secret("a", None)


async def test_the_cache_never_falls_behind_the_store(store: Store) -> None:
    """A read that was answered before a write, and wakes after it, does not cover it."""

    async def read() -> None:
        assert (await store.read_secret("a", None)).version == 1

    cached = await race(store, read)
    assert cached is not None
    assert cached.version == 2


async def test_a_cache_filled_by_waiting_tasks_would_fall_behind(store: Store) -> None:
    """The positive control of the test above: a reader that fills the cache itself leaves it stale."""

    async def read() -> None:
        store._cache.keep("a", await store.read_secret("a", None))

    cached = await race(store, read)
    assert cached is not None
    assert cached.version == 1


async def test_dropping_the_cache_drops_what_is_on_its_way(store: Store) -> None:
    """A read asked for before the drop, answered after it, leaves nothing cached."""
    await store.ask(PutSecret(path="a", new=version(1)))
    store.drop_cache()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.read_secret, "a", None)
        nursery.start_soon(store.ask, PutSecret(path="b", new=version(1)))
        await started()
        store.drop_cache()
    assert store.cached_secret("a", None) is None
    assert store.cached_secret("b", None) is None
    assert len(store._cache) == 0


def test_a_late_write_evicts_what_a_newer_read_kept() -> None:
    """After a drop an older put may not fill the cache, but what it made out of date has to go."""
    cache = SecretCache(10_000)
    settle(cache, ReadSecret(path="a", version=None), record(1), recent=True)
    settle(cache, PutSecret(path="a", new=version(2)), record(2), recent=False)
    assert cache.get("a", None) is None


async def test_a_store_larger_than_the_cache_is_served_all_the_same(state: Path) -> None:
    """The bound holds through the store, and what does not fit is read again."""
    async with open_store(state, cache_bytes=20_000) as store:
        news = {f"path/{index}": version(1) for index in range(200)}
        async with trio.open_nursery() as nursery:
            for path, new in news.items():
                nursery.start_soon(store.ask, PutSecret(path=path, new=new))
        statistics = await store.statistics()
        assert 10_000 < statistics.cache_bytes <= 20_000
        for path, new in news.items():
            found = store.cached_secret(path, None) or await store.read_secret(path, None)
            assert found.value == new.value


def test_reading_an_older_version_leaves_the_cache_alone() -> None:
    """Only the latest version is ever kept."""
    cache = SecretCache(10_000)
    cache.keep("a", record(2))
    settle(cache, ReadSecret(path="a", version=1), record(1), recent=True)
    assert cache.get("a", None) == record(2)
