"""The store in one SQLite file: the back end of an agent that has its store to itself.

``backend`` runs commands and decides what a failure means; ``secrets``, ``listings`` and ``keys`` answer
them. ``database`` is the connection, ``home`` the files, ``creation`` makes a store, ``failures`` turns
foreign errors into Keyholt's. ``schema`` and ``statements`` are the source of ``sql``; of these three a
running agent loads the last alone.
"""

from __future__ import annotations

from keyholt_agent.store.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
