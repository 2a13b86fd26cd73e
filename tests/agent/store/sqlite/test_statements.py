"""The statements: compiled from what is in the source, and how SQLite goes about each.

- A plan shows by which index a table is searched, and whether all of it is read instead.
- It does not show how far a search goes on: that is counted, in instructions of SQLite's machine.
"""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import sqlite as sqlite_dialect

from keyholt_agent.store import ListSecrets, PutSecret, ReadHistory
from keyholt_agent.store.key_commands import AddUp
from keyholt_agent.store.sqlite import elements, sql, statements
from keyholt_agent.store.sqlite.schema import secret
from tests.agent.store.builders import Keeper, unsealed, version
from tools import compiled_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from keyholt_agent.store.commands import AnyCommand
    from keyholt_agent.store.sqlite.backend import SqliteBackend

READ_WHOLE: Final = {"keyslot", "master_key", "store_meta", "alembic_version"}
"""Tables of one row or a few, all of which are wanted."""

HARMLESS: Final = {
    "SCAN secret USING COVERING INDEX secret_deleted",  # counting tombstones, and nothing else is in it
    "SCAN CONSTANT ROW",  # no table at all
}


@pytest.fixture
def backend(state: Path) -> Iterator[SqliteBackend]:
    """The backend of a new store."""
    with unsealed(state) as backend:
        yield backend


def driver(backend: SqliteBackend) -> sqlite3.Connection:
    """SQLite's own connection."""
    assert backend._database is not None
    return backend._database.connection


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    """SQLite's plan for a statement, a line a step."""
    values = dict.fromkeys(re.findall(r":(\w+)", statement))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def complaints(steps: list[str]) -> list[str]:
    """Those steps of a plan that read a large table from end to end, or sort."""
    return [
        step
        for step in steps
        if "TEMP B-TREE" in step
        or (step.startswith("SCAN") and step not in HARMLESS and not READ_WHOLE.intersection(step.split()))
    ]


def test_what_sqlite_is_told_is_what_the_source_says() -> None:
    """The compiled texts are those of the statements and tables; a change of either shows."""
    assert compiled_statements.TARGET.read_text("utf-8") == compiled_statements.compiled()
    assert {*statements.__all__, "SCHEMA"} == set(sql.__all__)


def test_a_value_in_a_statement_is_refused() -> None:
    """What a statement is given has a name, or nobody could give it."""
    with pytest.raises(AssertionError, match="name it with bindparam"):
        compiled_statements._sql(select(secret.c.id).where(secret.c.latest == 5), sqlite_dialect.dialect())


@pytest.mark.parametrize("name", statements.__all__)
def test_a_statement_finds_its_rows_by_an_index(backend: SqliteBackend, name: str) -> None:
    """None reads a table of secrets from end to end, or sorts."""
    assert complaints(plan(driver(backend), getattr(sql, name))) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM secret WHERE latest = 1",
        "SELECT count(*) FROM secret_version",
        "SELECT path FROM secret WHERE path > 'a' ORDER BY latest LIMIT 10",
        "SELECT version FROM secret_version WHERE created > 5",
        "UPDATE data_key SET wrapped_key = x'00' WHERE wrapped_key = x'01'",
        "SELECT path FROM secret WHERE lower(path) = 'a'",
        "SELECT s.path FROM secret AS s JOIN secret_version AS v ON v.created = s.latest WHERE s.path = 'a'",
    ],
)
def test_a_statement_that_reads_all_would_be_noticed(backend: SqliteBackend, statement: str) -> None:
    """The control: each of these reads a table from end to end, or sorts."""
    assert complaints(plan(driver(backend), statement))


SECRETS: Final = 2_000
PAGE: Final = 20


@pytest.fixture
def many(backend: SqliteBackend) -> SqliteBackend:
    """A store with 2,000 secrets below ``s/``, some before and after them, and as many versions of one."""
    paths = [f"a/{number:04}" for number in range(100)] + [f"s/{number:04}" for number in range(SECRETS)]
    for outcome in backend.run([PutSecret(path=path, new=version(1)) for path in [*paths, "z"]]):
        outcome.unwrap()
    for outcome in backend.run([PutSecret(path="v", new=version(number + 1)) for number in range(SECRETS)]):
        outcome.unwrap()
    return backend


def instructions(backend: SqliteBackend, ask: Callable[[], object]) -> int:
    """How many instructions SQLite's machine runs for what is asked."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    driver(backend).set_progress_handler(counted, 1)
    try:
        ask()
    finally:
        driver(backend).set_progress_handler(None, 1)
    return count


def cost(backend: SqliteBackend, command: AnyCommand) -> int:
    """The instructions of a command."""
    return instructions(backend, partial(backend.run, [command]))


@pytest.mark.parametrize("prefix", ["", "s", "s/"])
def test_a_page_of_a_listing_costs_the_same_wherever_it_is(many: SqliteBackend, prefix: str) -> None:
    """The last one not half as much again as the first; a full page of them, each time."""
    pages = {
        after: ListSecrets(prefix=prefix, after=after, limit=PAGE)
        for after in (None, f"s/{PAGE:04}", f"s/{SECRETS // 2:04}", f"s/{SECRETS - PAGE - 2:04}")
    }
    for page in pages.values():
        assert len(many.run([page])[0].unwrap().secrets) == PAGE
    costs = [cost(many, page) for page in pages.values()]
    assert max(costs) <= 1.5 * costs[0], costs


def test_a_page_of_a_history_costs_the_same_wherever_it_is(many: SqliteBackend) -> None:
    """The last one not half as much again as the first."""
    costs = [
        cost(many, ReadHistory(path="v", before=before, limit=PAGE)) for before in (None, 1_000, PAGE + 1)
    ]
    assert max(costs) <= 1.5 * costs[0], costs


def test_a_portion_of_what_is_added_up_costs_the_same_wherever_it_is(many: SqliteBackend) -> None:
    """Of paths as of versions: the last one not half as much again as the first."""
    for table in (elements.HEADS, elements.VERSIONS):
        costs = [
            cost(many, AddUp(keeper=Keeper(), after=(table, after), most=PAGE))
            for after in (0, SECRETS // 2, SECRETS)
        ]
        assert max(costs) <= 1.5 * costs[0], costs


def test_two_lower_bounds_would_be_noticed(many: SqliteBackend) -> None:
    """The control: SQLite seeks by the one and reads on to the other, though its plan looks the same."""

    def page(bounds: str) -> str:
        return f"SELECT path FROM secret WHERE {bounds} ORDER BY path LIMIT {PAGE}"

    def run(statement: str) -> int:
        return instructions(many, lambda: driver(many).execute(statement).fetchall())

    two, one = page("path >= 's/' AND path > 's/1900'"), page("path > 's/1900'")
    assert plan(driver(many), two) == plan(driver(many), one)
    assert run(two) > 10 * run(one)
