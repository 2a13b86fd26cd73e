"""How SQLite goes about each statement: by an index to what was asked for, and no further than the page goes.

- A plan shows by which index a table is searched, and whether all of it is read instead.
- It does not show how far a search goes on: that is counted, in instructions of SQLite's machine.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from inspect import isabstract
from typing import TYPE_CHECKING, Any, Final

import pytest

from keyholt_agent.store import commands as commands_module
from keyholt_agent.store.commands import (
    AddMasterVersion,
    AnyCommand,
    Command,
    CountSecrets,
    CreateStore,
    DeleteSecret,
    DestroyVersion,
    ListSecrets,
    PutSecret,
    ReadHead,
    ReadHistory,
    ReadLargeSecret,
    ReadMasterKeys,
    ReadSecret,
    ReadSlotTable,
    ReplaceSlotTable,
    ReserveWraps,
    UndeleteSecret,
)
from keyholt_agent.store.core import StoreCore
from tests.agent.store.builders import CREATED, MASTER, master, slot, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READ_WHOLE: Final = {"keyslot", "master_key", "store_meta", "pragma_page_count", "pragma_page_size"}
"""Tables of one row or a few, all of which are wanted."""

HARMLESS: Final = {
    "SCAN secret USING COVERING INDEX secret_deleted",  # counting tombstones, and nothing else is in it
    "SCAN CONSTANT ROW",  # no table at all
}

EVERY_COMMAND: Final[list[AnyCommand]] = [
    PutSecret(path="a", new=version(1)),
    PutSecret(path="a", new=version(2)),
    ReadSecret(path="a", version=None),
    ReadSecret(path="a", version=1),
    ReadLargeSecret(path="a", version=None),
    ReadLargeSecret(path="a", version=1),
    ReadHead(path="a"),
    ListSecrets(prefix="", after=None, limit=10),
    ListSecrets(prefix="", after="a", limit=10),
    ListSecrets(prefix="a", after=None, limit=10),
    ListSecrets(prefix="a", after="a/b", limit=10),
    ListSecrets(prefix="a/b", after="a", limit=10),
    ReadHistory(path="a", before=None, limit=10),
    ReadHistory(path="a", before=2, limit=10),
    CountSecrets(),
    DeleteSecret(path="a", deleted_at=CREATED),
    UndeleteSecret(path="a"),
    DestroyVersion(path="a", version=1),
    ReadSlotTable(),
    ReplaceSlotTable(slots=(slot(),), mac=b"mac 1", expected_mac=b"mac 0"),
    ReadMasterKeys(),
    ReserveWraps(key_id=MASTER, version=1, count=1, limit=10),
    AddMasterVersion(row=master(2), retire=(MASTER, 1)),
]


@pytest.fixture
def core(state: Path) -> Iterator[StoreCore]:
    """The core of a new store."""
    core = StoreCore(state)
    core.start()
    yield core
    core.stop()


def driver(core: StoreCore) -> sqlite3.Connection:
    """SQLite's own connection."""
    assert core._database is not None
    return core._database._driver


def statements_of(core: StoreCore, command: AnyCommand) -> list[str]:
    """Every statement that a command runs, with its values."""
    run: list[str] = []
    driver(core).set_trace_callback(run.append)
    try:
        core.run([command])[0].unwrap()
    finally:
        driver(core).set_trace_callback(None)
    return [text for text in run if text.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))]


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    """SQLite's plan for a statement, a line a step."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]


def complaints(steps: list[str]) -> list[str]:
    """Those steps of a plan that read a large table from end to end, or sort."""
    return [
        step
        for step in steps
        if "TEMP B-TREE" in step
        or (step.startswith("SCAN") and step not in HARMLESS and not READ_WHOLE.intersection(step.split()))
    ]


def concrete() -> set[type[Any]]:
    """The commands that there are."""
    return {
        found
        for found in vars(commands_module).values()
        if isinstance(found, type) and issubclass(found, Command) and not isabstract(found)
    }


def test_every_statement_finds_its_rows_by_an_index(core: StoreCore) -> None:
    """No statement of any command reads a table of secrets from end to end, or sorts."""
    assert concrete() - {type(command) for command in EVERY_COMMAND} == {CreateStore}
    checked = 0
    for command in EVERY_COMMAND:
        for statement in statements_of(core, command):
            assert complaints(plan(driver(core), statement)) == [], statement
            checked += 1
    assert checked > len(EVERY_COMMAND)


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
def test_a_statement_that_reads_all_would_be_noticed(core: StoreCore, statement: str) -> None:
    """The control: each of these reads a table from end to end, or sorts."""
    assert complaints(plan(driver(core), statement))


SECRETS: Final = 2_000
PAGE: Final = 20


@pytest.fixture
def many(core: StoreCore) -> StoreCore:
    """A store with 2,000 secrets below ``s/``, some before and after them, and as many versions of one."""
    paths = [f"a/{number:04}" for number in range(100)] + [f"s/{number:04}" for number in range(SECRETS)]
    for outcome in core.run([PutSecret(path=path, new=version(1)) for path in [*paths, "z"]]):
        outcome.unwrap()
    for outcome in core.run([PutSecret(path="v", new=version(number + 1)) for number in range(SECRETS)]):
        outcome.unwrap()
    return core


def instructions(core: StoreCore, ask: Callable[[], object]) -> int:
    """How many instructions SQLite's machine runs for what is asked."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    driver(core).set_progress_handler(counted, 1)
    try:
        ask()
    finally:
        driver(core).set_progress_handler(None, 1)
    return count


def cost(core: StoreCore, command: AnyCommand) -> int:
    """The instructions of a command."""
    return instructions(core, partial(core.run, [command]))


@pytest.mark.parametrize("prefix", ["", "s", "s/"])
def test_a_page_of_a_listing_costs_the_same_wherever_it_is(many: StoreCore, prefix: str) -> None:
    """The last one not half as much again as the first; a full page of them, each time."""
    pages = {
        after: ListSecrets(prefix=prefix, after=after, limit=PAGE)
        for after in (None, f"s/{PAGE:04}", f"s/{SECRETS // 2:04}", f"s/{SECRETS - PAGE - 2:04}")
    }
    for page in pages.values():
        assert len(many.run([page])[0].unwrap()) == PAGE
    costs = [cost(many, page) for page in pages.values()]
    assert max(costs) <= 1.5 * costs[0], costs


def test_a_page_of_a_history_costs_the_same_wherever_it_is(many: StoreCore) -> None:
    """The last one not half as much again as the first."""
    costs = [
        cost(many, ReadHistory(path="v", before=before, limit=PAGE)) for before in (None, 1_000, PAGE + 1)
    ]
    assert max(costs) <= 1.5 * costs[0], costs


def test_two_lower_bounds_would_be_noticed(many: StoreCore) -> None:
    """The control: SQLite seeks by the one and reads on to the other, though its plan looks the same."""

    def page(bounds: str) -> str:
        return f"SELECT path FROM secret WHERE {bounds} ORDER BY path LIMIT {PAGE}"

    def run(statement: str) -> int:
        return instructions(many, lambda: driver(many).execute(statement).fetchall())

    two, one = page("path >= 's/' AND path > 's/1900'"), page("path > 's/1900'")
    assert plan(driver(many), two) == plan(driver(many), one)
    assert run(two) > 10 * run(one)
