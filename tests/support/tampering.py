"""A store that somebody else writes to, who knows SQLite but no key; its agent is stopped meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

__all__ = ["edit", "look"]


def edit(agent: AgentProcess, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """Change the database of a stopped agent."""
    with closing(sqlite3.connect(agent.store, timeout=0)) as database, database:
        for statement, parameters in statements:
            database.execute(statement, parameters)


def look(agent: AgentProcess, query: str) -> list[tuple[Any, ...]]:
    """What is in the database of a stopped agent."""
    with closing(sqlite3.connect(agent.store)) as database:
        return database.execute(query).fetchall()
