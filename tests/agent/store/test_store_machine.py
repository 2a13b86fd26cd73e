"""The store against a model of plain dictionaries, by a state machine of hypothesis."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from keyholt_agent.store import (
    AddKeyslot,
    CountWraps,
    DeleteSecret,
    DestroyVersion,
    Head,
    HeadMovedError,
    ListSecrets,
    NewVersion,
    PutSecret,
    ReadHistory,
    ReadMasterKeys,
    ReadSlotTable,
    SecretVersion,
    SlotTableMovedError,
    Store,
    UndeleteSecret,
    WrapLimitError,
)
from keyholt_agent.store.commands import AnyCommand, ReadSecret
from keyholt_protocol.errors import AlreadyExistsError, KeyholtError, NotFoundError
from tests.agent.store.builders import CREATED, MASTER, Keeper, Latest, head, opened, slot, version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

PATHS = st.sampled_from(["a", "a/b", "a/c", "b", "é", "z/\U0010ffff"])
NUMBERS = st.integers(1, 4)
PREFIXES = st.sampled_from(["", "a", "a/", "z/\U0010ffff", "nothing"])


@dataclass
class Model:
    """What a path of the store should be."""

    versions: list[NewVersion] = field(default_factory=list)
    destroyed: set[int] = field(default_factory=set)
    deleted: bool = False

    @property
    def head(self) -> Head:
        return Head(latest=len(self.versions), deleted_at=CREATED if self.deleted else None)

    def read(self, number: int | None) -> SecretVersion | None:
        number = len(self.versions) if number is None else number
        if self.deleted or not 1 <= number <= len(self.versions):
            return None
        new = self.versions[number - 1]
        gone = number in self.destroyed
        return SecretVersion(
            version=number,
            metadata=new.metadata,
            wrapped_key=None if gone else new.wrapped_key,
            value=None if gone else new.value,
        )


class OpenedStore:
    """An open store in a trio of its own thread, so that a synchronous machine can drive it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.latest = Latest(most=3)  # so few that versions are pushed out all the time
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        self._ready.wait()

    async def _main(self) -> None:
        async with opened(self._directory, self.latest) as self.store:
            self._token = trio.lowlevel.current_trio_token()
            self._end = trio.Event()
            self._ready.set()
            await self._end.wait()

    def call(self, method: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return trio.from_thread.run(method, *args, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._end.set, trio_token=self._token)
        self._thread.join()


class StoreMachine(RuleBasedStateMachine):
    """Everything that a user can do to secrets, some of what concerns keys, and restarts in between.

    After each step all rows are added up, and come to what is sealed.
    """

    pristine: Path

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.directory = Path(self.scratch.name) / "state"
        shutil.copytree(self.pristine, self.directory)
        self.opened = OpenedStore(self.directory)
        self.paths: dict[str, Model] = {}
        self.wraps = 0
        self.slots = ["passphrase"]

    @property
    def store(self) -> Store:
        return self.opened.store

    def teardown(self) -> None:
        self.opened.close()
        self.scratch.cleanup()

    def error_of(self, command: AnyCommand) -> type[KeyholtError] | None:
        try:
            self.opened.call(self.store.ask, command)
        except KeyholtError as error:
            return type(error)
        return None

    @rule(path=PATHS, number=NUMBERS, next_one=st.booleans())
    def put(self, path: str, number: int, next_one: bool) -> None:
        model = self.paths.get(path, Model())
        new = version(len(model.versions) + 1 if next_one else number)
        error = self.error_of(PutSecret(path=path, new=new))
        if new.version == len(model.versions) + 1:
            assert error is None
            model.versions.append(new)
            model.deleted = False
            self.paths[path] = model
        else:
            assert error is HeadMovedError

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        model = self.paths.get(path)
        error = self.error_of(DeleteSecret(path=path, deleted_at=CREATED))
        if model is None or model.deleted:
            assert error is NotFoundError
        else:
            assert error is None
            model.deleted = True

    @rule(path=PATHS)
    def undelete(self, path: str) -> None:
        model = self.paths.get(path)
        error = self.error_of(UndeleteSecret(path=path))
        if model is None:
            assert error is NotFoundError
        else:
            assert error is (None if model.deleted else AlreadyExistsError)
            model.deleted = False

    @rule(path=PATHS, number=NUMBERS)
    def destroy(self, path: str, number: int) -> None:
        model = self.paths.get(path)
        error = self.error_of(DestroyVersion(path=path, version=number))
        if model is None or number > len(model.versions):
            assert error is NotFoundError
        else:
            assert error is None
            model.destroyed.add(number)

    @rule(path=PATHS, number=st.none() | NUMBERS)
    def read(self, path: str, number: int | None) -> None:
        expected = self.paths.get(path, Model()).read(number)
        if expected is None:
            assert self.error_of(ReadSecret(path=path, version=number)) is NotFoundError
        else:
            assert self.opened.call(self.store.read_secret, path, number) == expected

    @rule(path=PATHS)
    def history(self, path: str) -> None:
        model, asked = self.paths.get(path), ReadHistory(path=path, before=None, limit=100)
        if model is None:
            assert self.error_of(asked) is NotFoundError
            return
        head, versions = self.opened.call(self.store.ask, asked)
        assert head == model.head
        assert [(entry.version, entry.destroyed) for entry in versions] == [
            (number, number in model.destroyed) for number in range(len(model.versions), 0, -1)
        ]

    @rule(prefix=PREFIXES, after=st.none() | PATHS, limit=st.integers(1, 4))
    def listing(self, prefix: str, after: str | None, limit: int) -> None:
        page = self.opened.call(self.store.ask, ListSecrets(prefix=prefix, after=after, limit=limit))
        found = page.secrets
        live = [
            (path, len(model.versions), model.versions[-1].metadata)
            for path, model in sorted(self.paths.items())
            if not model.deleted and path.startswith(prefix) and (after is None or path > after)
        ]
        assert [(entry.path, entry.latest, entry.metadata) for entry in found] == live[:limit]

    @rule()
    def restart(self) -> None:
        self.opened.close()
        self.opened = OpenedStore(self.directory)

    @rule(count=st.integers(0, 2), limit=st.integers(0, 4))
    def count_wraps(self, count: int, limit: int) -> None:
        error = self.error_of(CountWraps(key_id=MASTER, version=1, count=count, limit=limit))
        if self.wraps + count > limit:
            assert error is WrapLimitError
        else:
            assert error is None
            self.wraps += count

    @rule(current=st.booleans())
    def add_keyslot(self, current: bool) -> None:
        number = len(self.slots)
        mac = {"mac": b"mac %d" % number, "expected_mac": b"mac %d" % (number - 1) if current else b"?"}
        error = self.error_of(AddKeyslot(slot=slot(f"{number}"), **mac))
        if current:
            assert error is None
            self.slots.append(f"{number}")
        else:
            assert error is SlotTableMovedError

    @rule(path=PATHS, others=st.lists(PATHS, max_size=5))
    def put_together(self, path: str, others: list[str]) -> None:
        models = {other: self.paths.setdefault(other, Model()) for other in [path, *others]}
        news = {other: version(len(model.versions) + 1) for other, model in models.items()}
        # The second of two for one path is refused, in the same batch, whichever comes first.
        asked = [PutSecret(path=other, new=news[other]) for other in [path, *others]]
        self.opened.call(self.ask_together, asked)
        for other, model in models.items():
            model.versions.append(news[other])
            model.deleted = False

    async def ask_together(self, asked: Sequence[PutSecret]) -> None:
        async def ask(command: PutSecret) -> None:
            with suppress(HeadMovedError):
                await self.store.ask(command)

        async with trio.open_nursery() as nursery:
            for command in asked:
                nursery.start_soon(ask, command)

    @rule()
    def drop_cache(self) -> None:
        trio.from_thread.run_sync(self.opened.latest.drop, trio_token=self.opened._token)

    @invariant()
    def the_cache_tells_the_truth(self) -> None:
        for path, model in self.paths.items():
            cached = self.opened.latest.rows.get(path)
            assert cached is None or cached == model.read(None)

    @invariant()
    def the_store_is_whole(self) -> None:
        self.opened.call(self.store.unseal, Keeper())

    @invariant()
    def keys_agree(self) -> None:
        (row,) = self.opened.call(self.store.ask, ReadMasterKeys())
        assert row.wraps_reserved == self.wraps
        table = self.opened.call(self.store.ask, ReadSlotTable())
        assert [entry.name for entry in table.slots] == self.slots

    @invariant()
    def heads_and_counts_agree(self) -> None:
        counts = self.opened.call(self.store.statistics)
        deleted = sum(model.deleted for model in self.paths.values())
        assert (counts.secrets, counts.deleted) == (len(self.paths) - deleted, deleted)
        assert counts.versions == sum(len(model.versions) for model in self.paths.values())
        for path, model in self.paths.items():
            assert self.opened.call(head, self.store, path) == model.head


def test_the_store_behaves_like_dictionaries(pristine: Path) -> None:
    """Any sequence of operations and restarts has the effect that it has on plain dictionaries."""
    machine = type("StoreMachine", (StoreMachine,), {"pristine": pristine})
    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=25))


class ForgetfulMachine(StoreMachine):
    """A planted bug: deletions do not reach the cache."""

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        cached = self.opened.latest.rows.get(path)
        super().delete(path)
        if cached is not None:
            self.opened.latest.keep(path, cached)


def test_the_machine_finds_a_planted_bug(pristine: Path) -> None:
    """The positive control of the test above."""
    # What is tried follows from the name, and with this one it is found early.
    machine = type("Forgetful", (ForgetfulMachine,), {"pristine": pristine})
    # Found is enough: it need not be made small.
    search = settings(max_examples=200, stateful_step_count=25, print_blob=False, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=search)
