"""The migrations: they build what a store is created as, and the constant knows their head."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

from keyholt_agent.store.sqlite import migrate
from keyholt_agent.store.sqlite.database import REVISION
from keyholt_agent.store.sqlite.schema import METADATA

if TYPE_CHECKING:
    from pathlib import Path

USE_A_STORE: Final = """
import pathlib, sys, trio
from keyholt_agent import store
from tests.agent.store.builders import Keeper, seed, version
async def main():
    for number in (1, 2):
        async with store.open_store(pathlib.Path(sys.argv[1])) as opened:
            if number == 1:
                await opened.ask(store.CreateStore(seed=seed(), keeper=Keeper()))
            else:
                await opened.unseal(Keeper())
            await opened.ask(store.PutSecret(path="a", new=version(number)))
            await opened.ask(store.ReadMasterKeys())
trio.run(main)
print(*sorted({"alembic", "sqlalchemy"} & set(sys.modules)))
"""


def differences(store: Path, metadata: MetaData) -> list[object]:
    """What alembic would change in ``store`` to make it fit ``metadata``."""
    engine = create_engine(f"sqlite:///{store}")
    try:
        with engine.connect() as connection:
            return list(compare_metadata(MigrationContext.configure(connection), metadata))
    finally:
        engine.dispose()


def made_of(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Type, name and words of everything in a database."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {(kind, name, " ".join(text.split())) for kind, name, text in rows}


def test_the_constant_is_the_head_of_the_scripts() -> None:
    """Opening a store compares with a constant; it has to be the newest script's revision."""
    assert migrate.scripts().get_heads() == [REVISION]
    assert migrate.knows(REVISION)
    assert not migrate.knows("9999")


def test_the_migrations_build_what_a_store_is_created_as(state: Path) -> None:
    """From nothing they come to the very words of a new store's tables, in the caller's transaction."""
    with closing(sqlite3.connect(state / "store.db")) as created:
        wanted = made_of(created)
        revisions = created.execute("SELECT version_num FROM alembic_version").fetchall()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as migrated:
        for end in ("ROLLBACK", "COMMIT"):
            migrated.execute("BEGIN")
            migrate.upgrade(migrated)
            assert migrated.in_transaction
            assert made_of(migrated) == wanted
            migrated.execute(end)
            assert made_of(migrated) == (wanted if end == "COMMIT" else set())
        assert migrated.execute("SELECT version_num FROM alembic_version").fetchall() == revisions


def test_a_failure_while_migrating_is_sqlite_s_own() -> None:
    """Whoever decides what it means for the store need not know what migrates it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as other:
        other.execute("CREATE TABLE keyslot (id INTEGER)")
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate.upgrade(other)


def test_the_tables_are_those_of_the_schema(state: Path) -> None:
    """Alembic finds no difference between a new store and ``schema``; with one table more it does."""
    assert differences(state / "store.db", METADATA) == []
    more = MetaData()
    for table in METADATA.tables.values():
        table.to_metadata(more)
    Table("planted", more, Column("id", Integer, primary_key=True))
    assert differences(state / "store.db", more) != []


def loaded_by(program: str, directory: Path) -> list[str]:
    """What a program that uses a store, and says what it has loaded, has loaded."""
    run = subprocess.run(
        [sys.executable, "-c", program, directory],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return run.stdout.split()


def test_a_store_is_made_and_used_without_sqlalchemy(tmp_path: Path) -> None:
    """It costs memory and time, so nothing loads it but a migration (the control)."""
    assert loaded_by(USE_A_STORE, tmp_path / "one") == []
    migrating = "import keyholt_agent.store.sqlite.migrate" + USE_A_STORE
    assert loaded_by(migrating, tmp_path / "other") == ["alembic", "sqlalchemy"]
