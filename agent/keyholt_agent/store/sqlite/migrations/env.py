"""What alembic runs for each command: takes the caller's connection, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from keyholt_agent.store.sqlite.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
