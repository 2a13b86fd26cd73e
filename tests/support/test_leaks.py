"""The check that a test leaves nothing behind finds each kind of thing that one could leave."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support import leaks
from tests.support.agent_process import poll
from tests.support.leaks import Stock, left_behind, run_without_leftover_tasks

ROOT = Path(__file__).parents[2]
MEMFD_SECRET = 447  # the number of the system call, on every architecture that has it
MAKE_ORPHAN = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0, stdout=2)"

# Each of these passes as a test and leaves one thing; together they show the fixture itself at work.
LEAKY_TESTS = """
import os, subprocess, threading, mmap, ctypes, trio
from tests.support import leaks

KEPT = []
leaks.GRACE_SECONDS = 0.05  # these are not about to end

def test_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="straggler").start()

def test_process():
    KEPT.append(subprocess.Popen(["sleep", "60"]))

def test_locked_memory():
    KEPT.append(mmap.mmap(-1, 65536))
    view = (ctypes.c_char * 65536).from_buffer(KEPT[-1])
    assert ctypes.CDLL(None).mlock(view, 65536) == 0

async def test_task():
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="straggler")

def test_clean():
    pass

def test_end_the_process():
    KEPT[0].kill()
    KEPT[0].wait()
"""


def found_since(before: Stock) -> list[str]:
    """What the check finds at once: these tests know what is there, and that it stays."""
    return left_behind(before, grace=0)


def test_nothing_left_is_nothing_reported() -> None:
    """A test that closes what it opened is at peace."""
    before = Stock.now()
    with Path(os.devnull).open("rb"):
        pass
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    subprocess.run(["true"], check=True)
    assert left_behind(before) == []


def test_descriptor_is_found() -> None:
    """An open descriptor is named with what it refers to."""
    before = Stock.now()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        assert found_since(before) == [f"descriptor {descriptor}: /dev/null"]
    finally:
        os.close(descriptor)


def test_descriptor_reused_for_something_else_is_found(tmp_path: Path) -> None:
    """Closing one's own and opening another under the same number does not hide it."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    before = Stock.now()
    os.close(descriptor)
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        assert other == descriptor
        assert found_since(before) == [f"descriptor {descriptor}: {tmp_path}"]
    finally:
        os.close(other)


def test_thread_is_found() -> None:
    """A thread that goes on is reported by name."""
    before = Stock.now()
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="straggler")
    thread.start()
    try:
        assert found_since(before) == ["thread straggler"]
    finally:
        done.set()
        thread.join()


async def test_idle_worker_of_trio_is_not_a_leak() -> None:
    """Trio keeps idle threads for ten seconds; nothing runs in them."""
    before = Stock.now()
    await trio.to_thread.run_sync(int)
    assert not [line for line in found_since(before) if line.startswith("thread")]


def test_idle_worker_of_trio_that_ends_is_not_a_leak() -> None:
    """For a moment the kernel still knows it, and Python does not; any other such thread is found."""
    now = Stock.now()
    gone = replace(now, threads=now.threads | {1})
    assert leaks._compare(replace(now, idle=frozenset({1})), gone) == []
    assert leaks._compare(now, gone) == ["thread 1, not one of Python's"]


async def test_busy_worker_of_trio_is_found() -> None:
    """A job that still runs in a thread of trio's cache is a leak."""
    before = Stock.now()
    done = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, done.wait, thread_name="straggler"))
        await trio.testing.wait_all_tasks_blocked()
        try:
            # Until the thread has taken the job, and with it the job's name, of which nothing tells.
            with trio.fail_after(10):
                while "thread straggler" not in found_since(before):  # noqa: ASYNC110
                    await trio.sleep(0.01)
        finally:
            done.set()


def test_process_is_found() -> None:
    """A child that goes on is reported with its command."""
    before = Stock.now()
    child = subprocess.Popen(["sleep", "60"])
    try:
        # It counts as started before the kernel has given it its arguments.
        poll(Path(f"/proc/{child.pid}/cmdline").read_bytes)
        assert found_since(before) == [f"process {child.pid}: sleep 60"]
    finally:
        child.kill()
        child.wait()


def test_process_never_waited_for_is_found() -> None:
    """A child that has ended holds its place in the process table until somebody waits."""
    before = Stock.now()
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert found_since(before) == [f"process {child.pid}: ended, but never waited for"]
    finally:
        child.wait()


def test_orphan_is_found_and_reaped() -> None:
    """A grandchild whose parent has ended is reported while it runs, and reaped once it has ended."""
    before = Stock.now()
    reading, writing = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, writing)
        with os.fdopen(reading) as stdin:
            subprocess.run([sys.executable, "-W", "ignore", "-c", MAKE_ORPHAN], stdin=stdin, check=True)
        assert any("input()" in line for line in found_since(before))
    # It reads the end of its input now, and has a while to end.
    assert left_behind(before) == []


def test_mlocked_memory_is_found() -> None:
    """Pages locked with mlock count."""
    before = Stock.now()
    with mmap.mmap(-1, 65536) as mapping:
        view = (ctypes.c_char * 65536).from_buffer(mapping)
        assert ctypes.CDLL(None).mlock(view, ctypes.c_size_t(65536)) == 0
        assert found_since(before) == ["locked memory: 64 KiB"]
        del view


def test_secret_memory_is_found() -> None:
    """A mapping of memfd_secret counts, after its descriptor is closed too."""
    before = Stock.now()
    descriptor = ctypes.CDLL(None).syscall(MEMFD_SECRET, 0)
    assert descriptor >= 0
    os.ftruncate(descriptor, 65536)
    mapping = mmap.mmap(descriptor, 65536)
    os.close(descriptor)
    try:
        assert "locked memory: 64 KiB" in found_since(before)
    finally:
        mapping.close()
    assert left_behind(before) == []


def test_system_task_is_found() -> None:
    """A system task that outlives the main one is named."""

    async def main() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="straggler")
        await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="trio task straggler"):
        run_without_leftover_tasks(main)


def test_fixture_fails_each_leaky_test(tmp_path: Path) -> None:
    """The automatic fixture turns a test that leaves something into an error, and only that one."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    (tmp_path / "test_leaky.py").write_text(LEAKY_TESTS)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-rEf"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = run.stdout.partition("short test summary info")[2]
    assert "ERROR test_leaky.py::test_descriptor - Failed: left behind: descriptor" in summary
    assert "ERROR test_leaky.py::test_thread - Failed: left behind: thread straggler" in summary
    assert "ERROR test_leaky.py::test_process - Failed: left behind: process" in summary
    assert "ERROR test_leaky.py::test_locked_memory - Failed: left behind: locked memory: 64 KiB" in summary
    assert "FAILED test_leaky.py::test_task - AssertionError: left behind: trio task straggler" in summary
    assert "1 failed, 6 passed, 4 errors" in summary


def test_clean_test_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is left the check neither collects garbage nor waits; it does both where something is."""
    costly: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: costly.append("collect"))
    monkeypatch.setattr(time, "sleep", lambda _: costly.append("sleep"))
    before = Stock.now()
    assert left_behind(before) == []
    assert costly == []
    with Path(os.devnull).open("rb"):
        assert left_behind(before, grace=0.02)
    assert {"collect", "sleep"} <= set(costly)
