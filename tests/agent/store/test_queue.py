"""What waits for the store's thread: bounded in bytes, and not run for nobody where it changes nothing."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.store import Store, commands, secret_reads
from keyholt_agent.store import store as store_module
from keyholt_agent.store.commands import ReadLargeSecret
from keyholt_agent.store.core import StoreCore
from keyholt_protocol.errors import BusyError
from tests.agent.store.builders import started, version

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from keyholt_agent.store import Head

LARGE = 100_000


@contextmanager
def held(store: Store, monkeypatch: pytest.MonkeyPatch) -> Generator[list[str], None, None]:
    """The store's thread held in a read of ``gate``, and the paths whose heads it has read."""
    opened, read = threading.Event(), []
    read_heads = secret_reads.read_heads

    def gated(connection: Connection, paths: list[str]) -> list[Head]:
        if "gate" in paths:
            assert opened.wait(20)
        read.extend(paths)
        return read_heads(connection, paths)

    monkeypatch.setattr(secret_reads, "read_heads", gated)
    try:
        yield read
    finally:
        opened.set()


async def abandon(store: Store, path: str, size: int) -> None:
    """Ask for a write and leave at once."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.put_secret, path, version(1, value=bytes(size)))
            await started()
            scope.cancel()
    assert scope.cancelled_caught


async def test_writes_that_nobody_waits_for_are_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Whoever asks and leaves fills three quarters and no more; small writes of others find room, and all is
    given back once it is written.
    """
    monkeypatch.setattr(store_module, "MAX_WAITING_BYTES", 4 * LARGE)
    with held(store, monkeypatch):
        nursery.start_soon(store.read_head, "gate")
        await started()
        for path in ("one", "two"):
            await abandon(store, path, LARGE)
        with pytest.raises(BusyError):
            await store.put_secret("large", version(1, value=bytes(LARGE)))
        nursery.start_soon(store.put_secret, "small", version(1))
        await started()
    while store._desk._waiting_bytes:
        await store.read_head("small")
    await store.put_secret("large", version(1, value=bytes(LARGE)))
    for path in ("one", "two", "small"):
        assert (await store.read_head(path)).latest == 1


async def test_empty_writes_are_counted_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Each costs memory, however little is written."""
    monkeypatch.setattr(store_module, "MAX_WAITING_BYTES", 20_000)
    with held(store, monkeypatch):
        nursery.start_soon(store.read_head, "gate")
        await started()
        for _ in range(9):
            nursery.start_soon(store.put_secret, "a", version(1, value=b""))
            await started()
        with pytest.raises(BusyError):
            await store.put_secret("b", version(1, value=b""))
        nursery.cancel_scope.cancel()


async def test_reads_that_nobody_waits_for_are_not_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Asking and leaving makes no work; a read that is waited for (the control) is run."""
    with held(store, monkeypatch) as read:
        nursery.start_soon(store.read_head, "gate")
        await started()
        nursery.start_soon(store.read_head, "wanted")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as leaving:
                for number in range(5):
                    leaving.start_soon(store.read_head, f"left/{number}")
                await started()
                scope.cancel()
    await store.read_head("after")
    assert sorted(read) == ["after", "gate", "wanted"]


async def test_large_values_are_read_one_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only small ones share a batch; each reader of a large one gets its own, named or latest."""
    monkeypatch.setattr(commands, "READ_WEIGHT", 1000)
    news = {f"{size}": version(1, value=bytes([size % 251]) * size) for size in range(996, 1006)}
    for path, new in news.items():
        await store.put_secret(path, new)
    store.drop_cache()
    waiting, most = 0, [0]
    submit = store._thread.submit

    def counted(job: store_module._Waiter) -> None:
        nonlocal waiting
        waiting += isinstance(job.command, ReadLargeSecret)
        most.append(waiting)
        submit(job)

    async def read(path: str, number: int | None) -> None:
        nonlocal waiting
        record = await store.read_secret(path, number)
        waiting -= len(news[path].value) > 1000
        assert record.value == news[path].value

    monkeypatch.setattr(store._thread, "submit", counted)
    async with trio.open_nursery() as nursery:
        for path in news:
            nursery.start_soon(read, path, None)
            nursery.start_soon(read, path, 1)
    assert max(most) == 1
    assert all(store.cached_secret(path, None) for path in news)


async def test_listing_reads_no_more_than_a_page_holds(store: Store) -> None:
    """However many entries are asked for, and with however much metadata: two at least, to show that there
    are more.
    """
    for number in range(30):
        await store.put_secret(f"a/{number:02}", version(1, metadata=bytes(10_000)))
        await store.put_secret("b", version(number + 1, metadata=bytes(100_000 if number % 2 else 10)))
    assert [entry.path for entry in await store.list_secrets("a/", None, 200)] == [
        f"a/0{n}" for n in range(7)
    ]
    assert len(await store.list_secrets("a/", None, 3)) == 3
    assert [entry.version for entry in (await store.history("b", None, 200))[1]] == [30, 29]


async def test_the_thread_outlives_its_housekeeping(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens between two batches, those who ask are answered."""

    def failing(_: StoreCore) -> None:
        raise MemoryError

    monkeypatch.setattr(StoreCore, "maintain", failing)
    for number in range(1, 4):
        await store.put_secret("a", version(number))
    assert "met a defect" in caplog.text
