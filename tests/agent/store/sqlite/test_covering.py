"""Writes of every kind while the keys of a new root add up all rows: whatever the order, all of it counts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keyholt_agent.store import (
    Cover,
    DeleteSecret,
    DestroyVersion,
    PutSecret,
    ReadMasterKeys,
    ReadSlotTable,
    UndeleteSecret,
)
from keyholt_agent.store.sqlite.sealing import Successor
from keyholt_protocol.errors import AlreadyExistsError, ConflictError, IntegrityError, NotFoundError
from tests.agent.store.builders import (
    CREATED,
    NEW_ROOT,
    Keeper,
    new_root,
    running,
    slot,
    unseal,
    unsealed,
    version,
)
from tests.agent.store.sqlite.behind import query

if TYPE_CHECKING:
    from keyholt_agent.store.commands import AnyCommand
    from keyholt_agent.store.sqlite.backend import SqliteBackend


def ask(backend: SqliteBackend, command: AnyCommand) -> Any:
    """What the backend answers to one command."""
    return backend.run([command])[0].unwrap()


PATHS = st.sampled_from(["a", "b", "c", "d", "e"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("cover"), st.integers(1, 5)),
        st.tuples(st.just("put"), PATHS),
        st.tuples(st.just("delete"), PATHS),
        st.tuples(st.just("undelete"), PATHS),
        st.tuples(st.just("destroy"), PATHS),
        st.tuples(st.just("refused"), PATHS),
    ),
    max_size=25,
)


def do(backend: SqliteBackend, keeper: Keeper, step: tuple[str, Any]) -> None:
    """One of them; what is refused changes nothing."""
    kind, what = step
    latest = query(backend, "SELECT latest FROM secret WHERE path = ?", (what,))
    number = latest[0]["latest"] if latest else 0
    commands: dict[str, AnyCommand] = {
        "cover": Cover(keeper=keeper, most=what if kind == "cover" else 1),
        "put": PutSecret(path=what, new=version(number + 1)),
        "delete": DeleteSecret(path=what, deleted_at=CREATED),
        "undelete": UndeleteSecret(path=what),
        "destroy": DestroyVersion(path=what, version=max(1, number)),
        "refused": PutSecret(path=what, new=version(number + 5)),
    }
    try:
        ask(backend, commands[kind])
    except (NotFoundError, ConflictError, AlreadyExistsError):
        assert kind != "put"


def check(pristine: Path, before: list[tuple[str, Any]], meanwhile: list[tuple[str, Any]], late: str) -> None:
    """Write before and while a keeper adds up all rows, and once more when it has; put it in force."""
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(shutil.copytree(pristine, Path(scratch) / "state"))
        keeper = Keeper(NEW_ROOT)
        with unsealed(state) as backend:
            for step in before:
                do(backend, Keeper(b"others, who begin and never end"), step)
            for step in meanwhile:
                do(backend, keeper, step)
            while ask(backend, Cover(keeper=keeper, most=2)) is not None:
                pass
            do(backend, keeper, ("put", late))
            table, masters = ask(backend, ReadSlotTable()), ask(backend, ReadMasterKeys())
            ask(backend, new_root(keeper, table, masters, [slot("one")]))
            ask(backend, PutSecret(path="after", new=version(1, master=2)))
        with running(state) as backend:
            with pytest.raises(IntegrityError):
                unseal(backend)
            unseal(backend, keeper)


@settings(max_examples=60)
@given(before=STEPS, meanwhile=STEPS, late=st.sampled_from(["a", "c", "f"]))
def test_whatever_is_written_meanwhile_is_under_the_new_seal(
    pristine: Path, before: list[tuple[str, Any]], meanwhile: list[tuple[str, Any]], late: str
) -> None:
    """An opening after it unseals with the new keys, and not with the old ones."""
    check(pristine, before, meanwhile, late)


@pytest.mark.parametrize(
    "bug",
    [
        lambda _, rows: rows,  # what is still to be read counts already
        lambda *_: [],  # what was read is believed to stay
        lambda successor, rows: [
            row for row in rows if row[:9] < successor._covered
        ],  # the last one is left out
    ],
)
def test_a_planted_bug_is_found(pristine: Path, monkeypatch: pytest.MonkeyPatch, bug: Any) -> None:
    """The control of the test above."""
    monkeypatch.setattr(Successor, "_counted", bug)
    search = settings(max_examples=100, print_blob=False, phases=[Phase.generate])
    found = given(before=STEPS, meanwhile=STEPS, late=st.sampled_from(["a", "c", "f"]))(
        lambda before, meanwhile, late: check(pristine, before, meanwhile, late)
    )
    with pytest.raises(IntegrityError):
        search(found)()
