"""The rules that hold for every test: it leaves nothing behind, and hypothesis repeats itself.

What tests write lies in memory where there is room for it.

- The check is automatic, and there is no marker that turns it off.
- A test that failed is not checked: its traceback keeps alive what it held.
"""

from __future__ import annotations

import gc
import os
import tempfile
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

from tests.support.leaks import Stock, adopt_orphans, left_behind, run_without_leftover_tasks

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# The same examples in every run and on every machine, so that a red run is the change's own doing; no
# deadline, since cores are shared. `make torture` looks for new ones, with --hypothesis-profile=torture.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile(
    "torture",
    deadline=None,
    database=None,
    print_blob=True,
    max_examples=10_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")

CALL_FAILED = pytest.StashKey[bool]()


MEMORY: Final = "/dev/shm"
"""Where Linux has a file system in memory."""

ROOM: Final = 4 * 1024**3
"""Bytes that have to be free there; a run takes less than one."""


def pytest_configure() -> None:
    """Before any test: makes processes that lose their parent this one's, and finds a place for files."""
    adopt_orphans()
    if "TMPDIR" not in os.environ and memory_will_do():
        tempfile.tempdir = MEMORY  # which pytest's own directories go by as well


def memory_will_do() -> bool:
    """Whether files can lie there. Most of a commit's time is the disk's, and no test pulls its plug."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    room = found.f_bavail * found.f_frsize >= ROOM
    return room and os.access(MEMORY, os.W_OK) and not found.f_flag & os.ST_NOEXEC


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has every trio test run by the runner that watches for leftover tasks."""
    for item in items:
        if item.get_closest_marker("trio"):
            item.add_marker(pytest.mark.trio(run=run_without_leftover_tasks), append=False)


def pytest_collection_finish() -> None:
    """Leaves what is loaded by now out of every garbage collection to come.

    It stays to the end, and looking through it again and again took a sixth of the tests' time.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers that a test failed, for the check that comes after it."""
    report = yield
    if call.when in {"setup", "call"} and report.failed:
        item.stash[CALL_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a descriptor, thread, process or locked page behind."""
    before = Stock.now()
    yield
    if request.node.stash.get(CALL_FAILED, False):
        return
    if left := left_behind(before):
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)
