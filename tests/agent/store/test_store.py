"""What waits for the store's thread: bounded in bytes, and not run for nobody where it changes nothing."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.store import ListSecrets, PutSecret, ReadHistory, Store
from keyholt_agent.store import store as store_module
from keyholt_agent.store.commands import SMALL_VALUE, ReadSecret
from keyholt_agent.store.sqlite.backend import SqliteBackend
from keyholt_agent.store.thread import Waiter
from keyholt_protocol.errors import BusyError
from tests.agent.store.builders import Latest, head, listed, started, version

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from keyholt_agent.store.sqlite.transaction import Transaction

LARGE = 100_000
PATIENCE = 20.0
"""Seconds for a thread that has to come."""


@asynccontextmanager
async def held(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> AsyncGenerator[list[str], None]:
    """The store's thread held in a read of ``gate``, and the paths whose heads it has read.

    Only once it stands there is what follows not taken into the same batch.
    """
    standing, opened = threading.Event(), threading.Event()
    read: list[str] = []
    backend = store._backend
    assert isinstance(backend, SqliteBackend)
    read_history = backend._answers[ReadHistory]

    def gated(transaction: Transaction, asked: ReadHistory) -> object:
        if asked.path == "gate":
            standing.set()
            assert opened.wait(PATIENCE)
        read.append(asked.path)
        return read_history(transaction, asked)

    monkeypatch.setitem(backend._answers, ReadHistory, gated)
    nursery.start_soon(head, store, "gate")
    assert await trio.to_thread.run_sync(standing.wait, PATIENCE)
    try:
        yield read
    finally:
        opened.set()


async def abandon(store: Store, path: str, size: int) -> None:
    """Ask for a write and leave at once."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.ask, PutSecret(path=path, new=version(1, value=bytes(size))))
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
    async with held(store, monkeypatch, nursery):
        for path in ("one", "two"):
            await abandon(store, path, LARGE)
        with pytest.raises(BusyError):
            await store.ask(PutSecret(path="large", new=version(1, value=bytes(LARGE))))
        nursery.start_soon(store.ask, PutSecret(path="small", new=version(1)))
        await started()
    while store._waiting_bytes:
        await head(store, "small")
    await store.ask(PutSecret(path="large", new=version(1, value=bytes(LARGE))))
    for path in ("one", "two", "small"):
        assert (await head(store, path)).latest == 1


async def test_empty_writes_are_counted_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Each costs memory, however little is written."""
    monkeypatch.setattr(store_module, "MAX_WAITING_BYTES", 20_000)
    async with held(store, monkeypatch, nursery):
        for _ in range(9):
            nursery.start_soon(store.ask, PutSecret(path="a", new=version(1, value=b"")))
            await started()
        with pytest.raises(BusyError):
            await store.ask(PutSecret(path="b", new=version(1, value=b"")))
        nursery.cancel_scope.cancel()


async def test_reads_that_nobody_waits_for_are_not_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """Asking and leaving makes no work; a read that is waited for (the control) is run."""
    async with held(store, monkeypatch, nursery) as read:
        nursery.start_soon(head, store, "wanted")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as leaving:
                for number in range(5):
                    leaving.start_soon(head, store, f"left/{number}")
                await started()
                scope.cancel()
    await head(store, "after")
    assert sorted(read) == ["after", "gate", "wanted"]


async def test_large_values_are_read_one_at_a_time(
    store: Store, latest: Latest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only small ones share a batch; each reader of a large one gets its own, named or latest."""
    sizes = range(SMALL_VALUE - 4, SMALL_VALUE + 6)
    news = {f"{size}": version(1, value=bytes([size % 251]) * size) for size in sizes}
    for path, new in news.items():
        await store.ask(PutSecret(path=path, new=new))
    latest.drop()
    waiting, most = 0, [0]
    submit = store._thread.submit

    def counted(waiter: Waiter) -> None:
        nonlocal waiting
        waiting += isinstance(waiter.command, ReadSecret) and waiter.command.most > SMALL_VALUE
        most.append(waiting)
        submit(waiter)

    async def read(path: str, number: int | None) -> None:
        nonlocal waiting
        record = await store.read_secret(path, number)
        waiting -= len(news[path].value) > SMALL_VALUE
        assert record.value == news[path].value

    monkeypatch.setattr(store._thread, "submit", counted)
    async with trio.open_nursery() as nursery:
        for path in news:
            nursery.start_soon(read, path, None)
            nursery.start_soon(read, path, 1)
    assert max(most) == 1
    assert latest.rows.keys() == news.keys()


async def test_listing_reads_no_more_than_a_page_holds(store: Store) -> None:
    """However many entries are asked for, and with however much metadata: two at least, to show that there
    are more.
    """
    for number in range(30):
        await store.ask(PutSecret(path=f"a/{number:02}", new=version(1, metadata=bytes(8_192))))
        await store.ask(PutSecret(path="b", new=version(number + 1, metadata=bytes(8_192))))
    assert await listed(store, "a/") == [f"a/0{n}" for n in range(8)]
    assert len(await listed(store, "a/", limit=3)) == 3
    assert [
        entry.version for entry in (await store.ask(ReadHistory(path="b", before=None, limit=200)))[1]
    ] == list(range(30, 21, -1))


async def test_the_thread_outlives_its_housekeeping(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens between two batches, those who ask are answered."""

    def failing(_: SqliteBackend) -> None:
        raise MemoryError

    monkeypatch.setattr(SqliteBackend, "maintain", failing)
    for number in range(1, 4):
        await store.ask(PutSecret(path="a", new=version(number)))
    assert "met a defect" in caplog.text


async def test_readers_in_a_crowd_hold_a_bounded_part_of_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask for values at once: the others wait for their turn, and all are answered."""
    await store.ask(PutSecret(path="a", new=(new := version(1))))
    monkeypatch.setattr(store, "_reading_small", trio.Semaphore(2))
    asked: list[int] = []
    ask = store.ask

    async def counted(command: ReadSecret) -> object:
        asked.append(len(asked))
        await trio.testing.wait_all_tasks_blocked()
        most.append(len(asked))
        found = await ask(command)
        asked.pop()
        return found

    most: list[int] = []
    monkeypatch.setattr(store, "ask", counted)
    values: list[bytes | None] = []

    async def read() -> None:
        values.append((await store.read_secret("a", None)).value)

    async with trio.open_nursery() as nursery:
        for _ in range(9):
            nursery.start_soon(read)
    assert values == [new.value] * 9
    assert max(most) == 2


async def test_pages_are_read_one_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    """However many are asked for, of listings as of histories: the others wait, and all are answered."""
    await store.ask(PutSecret(path="a", new=version(1)))
    answered: list[object] = []

    async def read(command: ListSecrets | ReadHistory) -> None:
        answered.append(await store.read_page(command))

    async with trio.open_nursery() as readers, held(store, monkeypatch, nursery):
        for _ in range(4):
            readers.start_soon(read, ListSecrets(prefix="", after=None, limit=10))
            readers.start_soon(read, ReadHistory(path="a", before=None, limit=10))
        await trio.testing.wait_all_tasks_blocked()
        assert store._thread._queue.qsize() == 1
    assert len(answered) == 8
