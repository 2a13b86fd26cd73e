"""The store's migrations: alembic scripts, run by ``keyholt_agent.store.migrate``."""
