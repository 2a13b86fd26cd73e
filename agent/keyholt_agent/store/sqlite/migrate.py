"""Brings a store to the newest format with alembic; imported only when there is something to migrate.

- Everything happens in the caller's transaction: SQLite's DDL is transactional, so an interrupted
  migration leaves the old format.
- No ``alembic.ini``, no logging set-up, nothing printed.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

__all__ = ["knows", "scripts", "upgrade"]


class BorrowingDialect(SQLiteDialect_pysqlite):
    """SQLite by a connection whose transaction, and end, are its owner's business."""

    supports_statement_cache = True

    def do_commit(self, dbapi_connection: Any) -> None:
        """Leave it to the owner."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Leave it to the owner."""

    def do_close(self, dbapi_connection: Any) -> None:
        """Leave it to the owner."""


registry.register("sqlite.borrowing", __name__, BorrowingDialect.__name__)


def upgrade(connection: sqlite3.Connection) -> None:
    """Run every migration that the store has not seen, inside the transaction that ``connection`` is in.

    Raises:
        sqlite3.Error: see ``failures.translate``.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = create_engine("sqlite+borrowing://", creator=lambda: connection, poolclass=StaticPool)
    config = _config()
    try:
        with engine.connect() as config.attributes["connection"]:
            command.upgrade(config, "head")
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from None
        raise


def knows(revision: str) -> bool:
    """Whether ``revision`` is one of this program's migrations; one of a newer program is not."""
    return any(script.revision == revision for script in scripts().walk_revisions())


def scripts() -> ScriptDirectory:
    """The migration scripts of this package."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "keyholt_agent.store.sqlite:migrations")
    config.set_main_option("path_separator", "os")
    return config
