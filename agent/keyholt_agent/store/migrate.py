"""Brings a store to the newest format with alembic; imported only when there is something to migrate.

- Everything happens in the caller's transaction: SQLite's DDL is transactional, so an interrupted
  migration leaves the old format.
- No ``alembic.ini``, no logging set-up, nothing printed.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

__all__ = ["knows", "scripts", "upgrade"]


def upgrade(connection: Connection) -> None:
    """Run every migration that the store has not seen, inside the transaction that ``connection`` is in."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def knows(revision: str) -> bool:
    """Whether ``revision`` is one of this program's migrations; one of a newer program is not."""
    return any(script.revision == revision for script in scripts().walk_revisions())


def scripts() -> ScriptDirectory:
    """The migration scripts of this package."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "keyholt_agent.store:migrations")
    config.set_main_option("path_separator", "os")
    return config
