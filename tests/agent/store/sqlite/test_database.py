"""What is in the place of a store, and is refused: each with a sentence that says which, and unchanged."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.store import (
    CreateStore,
    DeleteSecret,
    PutSecret,
    StoreDamagedError,
    StoreForeignError,
    StoreNewerError,
    open_store,
)
from keyholt_protocol.errors import KeyholtError, StoreUnavailableError
from tests.agent.store.builders import CREATED, Keeper, opened, running, seed, sql, version

if TYPE_CHECKING:
    from pathlib import Path

    from keyholt_agent.store import Store


async def refusal(state: Path, kind: type[KeyholtError]) -> str:
    """The sentence with which the store in ``state`` is refused; neither store nor log changes by it."""
    path = state / "store.db"
    before = path.read_bytes()
    with pytest.raises(kind) as refused:
        async with open_store(state):
            pass
    assert type(refused.value) is kind
    assert path.read_bytes() == before
    return str(refused.value)


async def read_all(store: Store, count: int) -> None:
    """Read what ``fill`` put."""
    for index in range(count):
        await store.read_secret(f"a/{index}", None)


async def is_refused_as_damaged(state: Path) -> bool:
    """Whether the store is refused, and as damaged."""
    try:
        async with open_store(state):
            return False
    except StoreDamagedError:
        return True


async def fill(store: Store, count: int, size: int = 6000) -> None:
    """Put ``count`` secrets with values of ``size`` bytes, over several pages."""
    for index in range(count):
        await store.ask(PutSecret(path=f"a/{index}", new=version(1, value=os.urandom(size))))


async def test_a_newer_format_is_refused(state: Path) -> None:
    """A revision that this program has no script for was written by a newer one."""
    sql(state, "UPDATE alembic_version SET version_num = '0099'")
    assert "format '0099', newer than this program" in await refusal(state, StoreNewerError)


async def test_a_store_without_a_format_is_refused(state: Path) -> None:
    """Neither an empty nor a missing version table is taken for a known format."""
    sql(state, "DELETE FROM alembic_version")
    assert "does not say which format" in await refusal(state, StoreDamagedError)
    sql(state, "DROP TABLE alembic_version")
    assert "is damaged" in await refusal(state, StoreDamagedError)


async def test_a_store_without_its_identity_is_refused(state: Path) -> None:
    """The row with the store's id has to be there."""
    sql(state, "DELETE FROM store_meta")
    assert "no identity row" in await refusal(state, StoreDamagedError)


async def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    """An SQLite database with another application id is left alone."""
    sql(tmp_path, "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')")
    assert "another program's SQLite database" in await refusal(tmp_path, StoreForeignError)


@pytest.mark.parametrize("content", [b"PK\x03\x04 something else", b"x", bytes(8192)])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """Anything that does not start like SQLite."""
    (tmp_path / "store.db").write_bytes(content)
    assert "not an SQLite database" in await refusal(tmp_path, StoreForeignError)


async def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """An empty file is what is left of a store, not a place for a new one."""
    (tmp_path / "store.db").touch()
    assert "is empty" in await refusal(tmp_path, StoreDamagedError)


@pytest.mark.parametrize("keep", [10, 99, 100, 4096, 4097, -1, -4096])
async def test_a_store_cut_short_is_refused(state: Path, keep: int) -> None:
    """Wherever it was cut."""
    path = state / "store.db"
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert "cut short" in await refusal(state, StoreDamagedError)


async def test_a_store_with_a_garbage_page_is_refused(state: Path) -> None:
    """Every page is checked when a store of ordinary size is opened."""
    async with opened(state) as store:
        await fill(store, 30)
    path = state / "store.db"
    content = path.read_bytes()
    refused = 0
    for page in range(1, len(content) // 4096):
        damaged = bytearray(content)
        damaged[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        path.write_bytes(damaged)
        refused += await is_refused_as_damaged(state)
    # Pages in the middle of a value hold nothing but ciphertext: its seal is what notices there.
    assert refused > len(content) // 4096 // 3
    path.write_bytes(content)
    async with opened(state) as store:
        assert (await store.statistics()).secrets == 30


async def test_a_page_that_turns_to_garbage_while_the_store_is_open(state: Path) -> None:
    """The request that meets it gets an error, later ones too, and the agent lives."""
    async with opened(state) as store:
        await fill(store, 100, size=150_000)  # more than SQLite's own cache holds
    async with opened(state) as store:
        with (state / "store.db").open("r+b") as file:
            # Whatever is not in SQLite's own cache by now is read from the file.
            for page in range(1, file.seek(0, os.SEEK_END) // 4096):
                file.seek(page * 4096)
                file.write(b"\xff" * 64)
        with pytest.raises(StoreUnavailableError):
            await read_all(store, 100)
        with pytest.raises(StoreUnavailableError):
            await store.ask(PutSecret(path="b", new=version(1)))


async def test_a_log_without_its_store_is_refused(state: Path) -> None:
    """A new store beside an old log would have that log replayed into it."""
    (state / "store.db").unlink()
    (state / "store.db-wal").write_bytes(b"a log")
    with pytest.raises(StoreDamagedError, match="put the store back, or move the log away"):
        async with open_store(state):
            pass


@pytest.mark.parametrize("kind", ["directory", "dangling", "fifo"])
async def test_what_is_not_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A directory, a dangling link or a FIFO in the store's place neither hangs nor is written over."""
    path = tmp_path / "store.db"
    match kind:
        case "directory":
            path.mkdir()
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case _:
            os.mkfifo(path)
    with pytest.raises(StoreUnavailableError):
        async with open_store(tmp_path) as store:
            await store.ask(CreateStore(seed=seed(), keeper=Keeper()))
    assert path.is_symlink() or not path.is_file()


def test_a_refused_directory_is_given_up(tmp_path: Path) -> None:
    """After a refusal the lock is free: mending and trying again needs no restart of anything else."""
    (tmp_path / "store.db").touch()
    for _ in range(2):
        with pytest.raises(StoreDamagedError), running(tmp_path):
            pass
    (tmp_path / "store.db").unlink()
    with running(tmp_path) as backend:
        assert not backend.initialised


async def test_a_sound_store_is_not_refused(state: Path) -> None:
    """The control of all of the above."""
    async with opened(state) as store:
        await fill(store, 3)
        await store.ask(DeleteSecret(path="a/1", deleted_at=CREATED))
    async with opened(state) as store:
        assert (await store.statistics()).secrets == 2
