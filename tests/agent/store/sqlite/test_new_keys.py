"""Keys that come into force add all rows up while the store serves on, and then are in force at once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.store import Cover, PutSecret
from keyholt_protocol.errors import ContentionError, IntegrityError, LockedError
from tests.agent.store.builders import Keeper, portions, running, unseal, unsealed, version
from tests.agent.store.sqlite.writes import WRITES, adds_up, new_root_of, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyholt_agent.store.sqlite.backend import SqliteBackend


@pytest.fixture
def state(state: Path) -> Path:
    """A state directory with a store that takes each kind of write."""
    prepare(state)
    return state


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """The backend of that store."""
    with unsealed(state) as backend:
        yield backend


@pytest.mark.parametrize("write", [write for write in WRITES if write != "new root"])
def test_what_is_written_meanwhile_counts(state: Path, tmp_path: Path, write: str) -> None:
    """Once, wherever the new keys have come to: whether it lies behind that place or before it."""
    with running(state) as backend:
        rows = sum(part.rows for part in portions(backend, Keeper()))
    for covered in range(rows + 2):
        copy = shutil.copytree(state, tmp_path / f"{covered}")
        keeper = Keeper(b"new")
        with unsealed(copy) as backend:
            for _ in range(covered):
                backend.run([Cover(keeper=keeper, most=1)])[0].unwrap()
            backend.run([WRITES[write](backend)])[0].unwrap()
            backend.run([new_root_of(backend, keeper)])[0].unwrap()
            assert adds_up(backend, keeper), covered


def test_what_failed_meanwhile_does_not_count(backend: SqliteBackend) -> None:
    """Neither a refusal, nor a batch that was taken back and run one by one."""
    keeper = Keeper(b"new")
    command = new_root_of(backend, keeper)
    backend.run([PutSecret(path="a", new=version(7))])
    backend.run([PutSecret(path=path, new=version(2)) for path in ("a", "\ud800")])
    backend.run([command])[0].unwrap()
    assert adds_up(backend, keeper)


def test_keys_that_have_not_added_up_all_rows_do_not_come_into_force(backend: SqliteBackend) -> None:
    """However many rows they lack; once they have all of them they do."""
    keeper = Keeper(b"new")
    replace = new_root_of(backend, keeper)
    unseal(backend)  # they begin anew
    added: int | None = 0
    while added is not None:
        with pytest.raises(ContentionError):
            backend.run([replace])[0].unwrap()
        assert adds_up(backend, Keeper())
        added = backend.run([Cover(keeper=keeper, most=1)])[0].unwrap()
    backend.run([replace])[0].unwrap()
    assert adds_up(backend, keeper)


def test_keys_begin_anew_after_others(backend: SqliteBackend) -> None:
    """Though both have added up all rows: only the last are followed."""
    keeper = Keeper(b"new")
    replace = new_root_of(backend, keeper)
    new_root_of(backend, Keeper(b"other"))
    with pytest.raises(ContentionError):
        backend.run([replace])[0].unwrap()
    backend.run([PutSecret(path="a", new=version(2))])[0].unwrap()
    backend.run([new_root_of(backend, keeper)])[0].unwrap()
    assert adds_up(backend, keeper)


def test_new_keys_that_were_given_up_hinder_no_write(backend: SqliteBackend) -> None:
    """Those in force seal on; the new ones add up nothing more, and do not come into force."""
    keeper = Keeper(b"new")
    replace = new_root_of(backend, keeper)
    keeper.give_up()
    for refused in (Cover(keeper=keeper, most=1), replace):
        with pytest.raises(LockedError):
            backend.run([refused])[0].unwrap()
    backend.run([PutSecret(path="a", new=version(2))])[0].unwrap()
    with pytest.raises(ContentionError):
        backend.run([replace])[0].unwrap()
    assert adds_up(backend, Keeper())


def test_old_keys_are_in_force_no_more(backend: SqliteBackend) -> None:
    """What they sealed is nothing to the store; the new ones seal on, and unseal it."""
    keeper = Keeper(b"new")
    backend.run([new_root_of(backend, keeper)])[0].unwrap()
    backend.run([PutSecret(path="a", new=version(2, master=2))])[0].unwrap()
    with pytest.raises(IntegrityError):
        unseal(backend, Keeper())
    unseal(backend, keeper)
