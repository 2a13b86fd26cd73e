"""The thread between trio and the store: shared commits, cancellation, shutdown, commands that break."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.store import (
    DeleteSecret,
    HeadMovedError,
    PutSecret,
    ReadHistory,
    Store,
    thread,
)
from keyholt_agent.store.sqlite import SqliteBackend
from keyholt_agent.store.sqlite.database import Database
from keyholt_protocol.errors import InternalError
from tests.agent.store.builders import CREATED, head, listed, opened, started, version

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from sqlite3 import Connection

    from tests.agent.store.builders import Latest


@contextmanager
def counted_commits() -> Generator[list[None], None, None]:
    """Every commit of any store, one entry each."""
    commits: list[None] = []
    transaction = Database.transaction

    def counted(database: Database) -> AbstractContextManager[Connection]:
        commits.append(None)
        return transaction(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "transaction", counted)
        yield commits


async def test_concurrent_writers_share_commits(store: Store) -> None:
    """64 puts at once take a few commits; one after the other (the control) they take 64."""
    with counted_commits() as commits:
        async with trio.open_nursery() as nursery:
            for index in range(64):
                nursery.start_soon(store.ask, PutSecret(path=f"many/{index}", new=version(1)))
    assert 1 <= len(commits) <= 4
    with counted_commits() as commits:
        for index in range(64):
            await store.ask(PutSecret(path=f"one/{index}", new=version(1)))
    assert len(commits) == 64


async def test_a_refused_put_hinders_no_other_in_its_batch(store: Store) -> None:
    """Each put of a batch is answered by itself."""
    await store.ask(PutSecret(path="taken", new=version(1)))
    refused: list[str] = []

    async def put(path: str) -> None:
        try:
            await store.ask(PutSecret(path=path, new=version(1)))
        except HeadMovedError:
            refused.append(path)

    async with trio.open_nursery() as nursery:
        for path in ("a", "taken", "b", "taken", "c"):
            nursery.start_soon(put, path)
    assert refused == ["taken", "taken"]
    assert await listed(store) == [
        "a",
        "b",
        "c",
        "taken",
    ]


async def test_writers_of_one_path_form_a_line(store: Store) -> None:
    """64 tasks add a version each to one path by compare-and-set; every version is written once."""
    written: list[int] = []

    async def add() -> None:
        number = 1
        while True:
            try:
                await store.ask(PutSecret(path="a", new=version(number)))
            except HeadMovedError as moved:
                number = moved.newest.head.latest + 1
            else:
                written.append(number)
                return

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(add)
    assert sorted(written) == list(range(1, 17))


async def test_versions_of_one_path_in_a_batch_keep_their_order(store: Store) -> None:
    """Versions queued in order before the thread looks are all written, in order."""
    news = {number: version(number) for number in range(1, 9)}
    async with trio.open_nursery() as nursery:
        for new in news.values():
            nursery.start_soon(store.ask, PutSecret(path="a", new=new))
            await started()
    assert [
        entry.version for entry in (await store.ask(ReadHistory(path="a", before=None, limit=10)))[1]
    ] == list(range(8, 0, -1))
    for number, new in news.items():
        assert (await store.read_secret("a", number)).value == new.value


async def test_a_cancelled_caller_leaves_and_its_command_is_done(store: Store) -> None:
    """Cancellation ends the wait at once; the write happens, and the store serves on."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for index in range(8):
                nursery.start_soon(store.ask, PutSecret(path=f"a/{index}", new=version(1)))
            await started()
            scope.cancel()
    assert scope.cancelled_caught
    # A read may be answered before writes that wait in the same batch; the one after it may not.
    await head(store, "a/0")
    assert await listed(store) == [f"a/{i}" for i in range(8)]


async def test_a_caller_cancelled_beforehand_asks_for_nothing(store: Store) -> None:
    """Who is cancelled already queues no command."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.ask(PutSecret(path="a", new=version(1)))
    assert scope.cancelled_caught
    assert (await head(store, "a")).latest == 0


async def test_closing_finishes_what_was_asked_for(state: Path) -> None:
    """What was queued before the end is durable after it, even if its callers were cancelled."""
    async with opened(state) as store, trio.open_nursery() as nursery:
        for index in range(300):
            nursery.start_soon(store.ask, PutSecret(path=f"a/{index}", new=version(1)))
        await started()
        nursery.cancel_scope.cancel()
    async with opened(state) as store:
        assert (await store.statistics()).secrets == 300


async def test_closing_ends_the_thread_and_the_log(state: Path) -> None:
    """A store that was closed has no thread, no log and no lock."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=version(1)))
        assert "keyholt-store" in {thread.name for thread in threading.enumerate()}
        assert (state / "store.db-wal").exists()
    assert "keyholt-store" not in {thread.name for thread in threading.enumerate()}
    assert not (state / "store.db-wal").exists()
    async with opened(state) as store:
        assert (await head(store, "a")).latest == 1


async def test_a_command_that_breaks_fails_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A command that SQLite cannot take is an internal error for its caller, and for no one else."""
    outcomes: dict[str, str] = {}

    async def put(path: str) -> None:
        try:
            await store.ask(PutSecret(path=path, new=version(1)))
        except InternalError:
            outcomes[path] = "internal"
        else:
            outcomes[path] = "written"

    broken = "\ud800"  # a lone surrogate: no UTF-8, and so no SQLite text
    async with trio.open_nursery() as nursery:
        for path in ("a", broken, "b", "c"):
            nursery.start_soon(put, path)
    assert outcomes == {"a": "written", broken: "internal", "b": "written", "c": "written"}
    assert "a store command failed" in caplog.text
    assert (await store.statistics()).secrets == 3


async def test_whoever_keeps_latest_versions_may_break(
    store: Store, latest: Latest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked is answered all the same, and nothing is kept that may not hold any more."""
    await store.ask(PutSecret(path="other", new=version(1)))
    await store.read_secret("other", None)
    assert latest.rows.keys() == {"other"}

    with monkeypatch.context() as patch:
        patch.setattr(latest, "keep", broken)
        patch.setattr(latest, "evict", broken)
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(store.ask, PutSecret(path=f"a/{number}", new=version(1)))
    assert latest.rows == {}
    assert "defect: ZeroDivisionError" in caplog.text
    assert "CANARY" not in caplog.text
    assert await listed(store) == ["a/0", "a/1", "a/2", "other"]


def broken(*_: object) -> None:
    """Fail as no code of the store's does."""
    raise ZeroDivisionError("CANARY")


async def test_a_thread_that_breaks_is_told_of_and_closes_the_store(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its commands: who stands by is told, nobody waits without end, and what was written stays."""
    written: list[str] = []

    async def breaking() -> None:
        async with opened(state) as store, trio.open_nursery() as nursery:
            nursery.start_soon(store.stand_by)
            for number in range(4):  # the thread may still be about to clear after the first
                await store.ask(PutSecret(path=f"a/{number}", new=version(1)))
                written.append(f"a/{number}")
                monkeypatch.setattr(thread, "clear_residue", broken)

    with pytest.raises(ExceptionGroup) as caught:
        await breaking()
    monkeypatch.undo()
    assert caught.group_contains(ZeroDivisionError)
    assert not (state / "store.db-wal").exists()
    async with opened(state) as store:
        assert 1 <= len(written) <= len(await listed(store)) <= 2


async def test_a_store_that_cannot_be_closed_is_told_of(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is not waited for without end; the defect is the caller's."""
    stop = SqliteBackend.stop

    def half_broken(backend: SqliteBackend) -> None:
        stop(backend)
        broken()

    async def closing() -> None:
        async with opened(state) as store:
            await store.ask(PutSecret(path="a", new=version(1)))
            monkeypatch.setattr(SqliteBackend, "stop", half_broken)

    with pytest.raises(ZeroDivisionError):
        await closing()


async def test_reads_and_writes_of_a_batch_are_all_answered(store: Store) -> None:
    """Commands of every sort at once: each caller gets its own answer."""
    for index in range(10):
        await store.ask(PutSecret(path=f"old/{index}", new=version(1)))
    answers: list[object] = []

    async def ask(call: object, *args: object) -> None:
        answers.append(await call(*args))  # type: ignore[operator]

    async with trio.open_nursery() as nursery:
        for index in range(10):
            nursery.start_soon(ask, store.read_secret, f"old/{index}", None)
            nursery.start_soon(ask, store.read_secret, f"old/{index}", 1)
            nursery.start_soon(ask, store.read_secret, "old/0", None)
            nursery.start_soon(ask, head, store, f"old/{index}")
            nursery.start_soon(ask, store.ask, PutSecret(path=f"new/{index}", new=version(1)))
            nursery.start_soon(ask, store.ask, ReadHistory(path=f"old/{index}", before=None, limit=5))
        nursery.start_soon(ask, store.ask, DeleteSecret(path="old/9", deleted_at=CREATED))
        nursery.start_soon(ask, store.statistics)
    assert len(answers) == 62
