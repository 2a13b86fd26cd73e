"""Who keeps latest versions is told in the store's order, so that nothing old covers a newer one."""

from __future__ import annotations

import errno
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
import trio

from keyholt_agent.store import (
    DeleteSecret,
    DestroyVersion,
    ErasureOwedError,
    PutSecret,
    SecretVersion,
    Store,
)
from keyholt_agent.store.commands import AnyCommand, ReadSecret
from keyholt_agent.store.latest import NOBODY, settle
from keyholt_agent.store.sqlite.database import Database
from tests.agent.store.builders import CREATED, Latest, opened, started, version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def row(number: int) -> SecretVersion:
    """A row as a read would give it."""
    return SecretVersion(version=number, metadata=bytes(60), wrapped_key=bytes(90), value=bytes(106))


def deliver(latest: Latest, done: list[tuple[AnyCommand, object]]) -> None:
    """Settle commands in the order given."""
    for command, result in done:
        settle(latest, command, result, recent=True)


def test_effects_in_the_store_s_order_leave_the_newest() -> None:
    """A read of version 1 that ran before a put of version 2 does not cover it, nor a deletion."""
    new = version(2)
    written = SecretVersion(version=2, metadata=new.metadata, wrapped_key=new.wrapped_key, value=new.value)
    read = (ReadSecret(path="a", version=None), row(1))
    put = (PutSecret(path="a", new=new), written)
    delete = (DeleteSecret(path="a", deleted_at=CREATED), 2)
    latest = Latest()
    deliver(latest, [read, put])
    assert latest.rows.get("a") == written
    deliver(latest, [read, put, delete])
    assert latest.rows.get("a") is None
    # The positive control: another order leaves a stale row, so the order is what matters.
    deliver(latest, [put, read])
    assert latest.rows.get("a") == row(1)
    deliver(latest, [delete, read])
    assert latest.rows.get("a") == row(1)


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


async def race(store: Store, latest: Latest, read: Callable[[], Awaitable[None]]) -> SecretVersion | None:
    """Read version 1 while 2 is written, both answered before a task wakes; what is kept then."""
    await store.ask(PutSecret(path="a", new=version(1)))
    latest.drop()
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
    return latest.rows.get("a")


async def test_a_cache_never_falls_behind_the_store(store: Store, latest: Latest) -> None:
    """A read that was answered before a write, and wakes after it, does not cover it."""

    async def read() -> None:
        assert (await store.read_secret("a", None)).version == 1

    kept = await race(store, latest, read)
    assert kept is not None
    assert kept.version == 2


async def test_a_cache_filled_by_waiting_tasks_would_fall_behind(store: Store, latest: Latest) -> None:
    """The positive control of the test above: a reader that fills the cache itself leaves it stale."""

    async def read() -> None:
        latest.keep("a", await store.read_secret("a", None))

    kept = await race(store, latest, read)
    assert kept is not None
    assert kept.version == 1


async def test_dropping_drops_what_is_on_its_way(store: Store, latest: Latest) -> None:
    """A read asked for before the drop, answered after it, leaves nothing behind."""
    await store.ask(PutSecret(path="a", new=version(1)))
    latest.drop()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.read_secret, "a", None)
        nursery.start_soon(store.ask, PutSecret(path="b", new=version(1)))
        await started()
        latest.drop()
    assert not latest.rows


def test_a_late_write_evicts_what_a_newer_read_kept() -> None:
    """After a drop an older put may not be kept, but what it made out of date has to go."""
    latest = Latest()
    settle(latest, ReadSecret(path="a", version=None), row(1), recent=True)
    settle(latest, PutSecret(path="a", new=version(2)), row(2), recent=False)
    assert latest.rows.get("a") is None


def test_reading_an_older_version_says_nothing_of_the_latest() -> None:
    """Only the latest version is ever kept."""
    latest = Latest()
    latest.keep("a", row(2))
    settle(latest, ReadSecret(path="a", version=1), row(1), recent=True)
    assert latest.rows.get("a") == row(2)


async def test_a_store_need_not_tell_anybody(state: Path) -> None:
    """Without somebody to tell, every read comes from the file."""
    async with opened(state) as store:
        await store.ask(PutSecret(path="a", new=(new := version(1))))
        assert (await store.read_secret("a", None)).value == new.value
        await store.ask(DeleteSecret(path="a", deleted_at=CREATED))
    NOBODY.drop()
    assert NOBODY.epoch == 0


async def test_what_is_done_and_answered_as_failed_is_not_kept(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that was destroyed where there was no room to clear the log is served by nobody."""
    latest = Latest()
    async with opened(state, latest) as store:
        await store.ask(PutSecret(path="a", new=version(1)))
        assert "a" in latest.rows

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "checkpoint", full)
            with pytest.raises(ErasureOwedError) as caught:
                await store.ask(DestroyVersion(path="a", version=1))
        assert not caught.value.retryable
        assert (await store.read_secret("a", 1)).destroyed
        assert "a" not in latest.rows
