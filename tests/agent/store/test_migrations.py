"""The migrations: they build what the schema says, and the constant knows their head."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, create_engine

from keyholt_agent.store import migrate
from keyholt_agent.store.schema import HEAD_REVISION, METADATA

if TYPE_CHECKING:
    from pathlib import Path


def differences(store: Path, metadata: MetaData) -> list[object]:
    """What alembic would change in ``store`` to make it fit ``metadata``."""
    engine = create_engine(f"sqlite:///{store}")
    try:
        with engine.connect() as connection:
            return list(compare_metadata(MigrationContext.configure(connection), metadata))
    finally:
        engine.dispose()


def test_the_constant_is_the_head_of_the_scripts() -> None:
    """Opening a store compares with a constant; it has to be the newest script's revision."""
    assert migrate.scripts().get_heads() == [HEAD_REVISION]
    assert migrate.knows(HEAD_REVISION)
    assert not migrate.knows("9999")


def test_the_migrations_build_the_schema(state: Path) -> None:
    """The tables of a new store are those of ``schema``; a table more there is noticed (the control)."""
    assert differences(state / "store.db", METADATA) == []
    more = MetaData()
    for table in METADATA.tables.values():
        table.to_metadata(more)
    Table("planted", more, Column("id", Integer, primary_key=True))
    assert differences(state / "store.db", more) != []


def test_opening_a_store_imports_no_alembic(state: Path) -> None:
    """Importing it costs memory and start-up time: only creating and migrating import it."""
    program = (
        "import sys, trio, pathlib\n"
        "from keyholt_agent.store import open_store\n"
        "async def main():\n"
        "    async with open_store(pathlib.Path(sys.argv[1])) as store:\n"
        "        await store.master_keys()\n"
        "trio.run(main)\n"
        "print('alembic' in sys.modules, 'sqlalchemy.orm' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, state], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
