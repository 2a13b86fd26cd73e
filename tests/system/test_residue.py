"""That the agent itself clears what its operations leave, every time before it waits, and far enough down."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.support import registers
from tests.support.agent_process import PASSPHRASE, AgentProcess, hurried
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.memory_scan import scan_process, scan_registers, scannable
from tests.support.residue import REACH, Careless, plant, plant_below
from tests.support.secret_life import SecretLife

TASKS: Final = 1024
"""Bytes below the stack pointer of a loop that waits where the frames of tasks are: what they do is below."""

BELOW: Final = 32 * 1024
"""Bytes further down that are watched."""


@pytest.fixture
def agent(installed: AgentProcess) -> AgentProcess:
    """What is started here is the program as it is installed."""
    return installed


@pytest.fixture(scope="session")
def new_state(installed_state: Path) -> Path:
    """And so it was where the store comes from."""
    return installed_state


def left_after_a_turn(agent: AgentProcess) -> tuple[int, int]:
    """Places in registers and in memory that hold what was planted before the last request."""
    pattern = os.urandom(16)
    with agent.connect() as client:
        client.status()
        registers.wait_blocked(agent.pid)
        plant(agent.pid, agent.pid, pattern, CODE_PATHS[0], spared=TASKS)
        client.status()
        registers.wait_blocked(agent.pid)
        return scan_registers(agent.pid, [pattern]).total, scan_process(agent.pid, [pattern]).total


def test_one_turn_clears(agent: AgentProcess) -> None:
    """A request that has nothing to do with secrets is enough; the loop clears, whatever it did."""
    agent.wrapper = scannable([])
    agent.start()
    assert left_after_a_turn(agent) == (0, 0)


def store_thread(agent: AgentProcess) -> int:
    """The id of the store's thread: the only one beside the main one while nothing else was asked for."""
    (thread,) = {int(name) for name in os.listdir(f"/proc/{agent.pid}/task")} - {agent.pid}
    return thread


def left_after_a_write(agent: AgentProcess, path: CodePath) -> tuple[int, int]:
    """Places in registers and in memory that hold what was planted in the store's thread before a write."""
    pattern = os.urandom(16)
    thread = store_thread(agent)
    with agent.connect() as client:
        client.call("agent.unlock", PASSPHRASE).expect()
        client.put("a", b"first")
        registers.wait_blocked(thread, for_thread=True)
        plant(agent.pid, thread, pattern, path)
        client.put("a", b"second")
        registers.wait_blocked(thread, for_thread=True)
        return scan_registers(agent.pid, [pattern]).total, scan_process(agent.pid, [pattern]).total


@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_a_write_clears_the_thread_of_the_store(stopped: AgentProcess, path: CodePath) -> None:
    """Which uses the keys of the sealed state: it clears before it waits for the next command."""
    stopped.wrapper = scannable([])
    stopped.environment = path.variables
    stopped.start()
    assert left_after_a_write(stopped, path) == (0, 0)


def test_without_clearing_it_is_left_there_and_reaches_no_further(tmp_path: Path, new_state: Path) -> None:
    """The control: an agent without clearing keeps it there. Whatever the store is asked for, a rekey and a
    check of all rows too, is done within the depth that would be cleared.
    """
    shutil.copytree(new_state, tmp_path / "state")
    with hurried(Careless(tmp_path, wrapper=scannable([]))) as agent:
        agent.start()
        thread = store_thread(agent)
        in_registers, in_memory = left_after_a_write(agent, CODE_PATHS[0])
        assert in_registers > 0
        assert in_memory > 1000
        pattern = os.urandom(16)
        with registers.stopped(thread):
            bottom = registers.stack_pointer(thread) - REACH
            plant_below(agent.pid, bottom, pattern, BELOW)
        with agent.connect() as client:
            for number in range(300):
                client.put(f"{number}", bytes(number * 50))
            client.call("secret.list").expect()
            client.call("secret.destroy", path="1", version=1).expect()
            client.call("store.rekey").expect()
            client.call("agent.lock").expect()
            client.call("agent.unlock", PASSPHRASE).expect()
        with Path(f"/proc/{agent.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(bottom - BELOW)
            assert memory.read(BELOW) == pattern * (BELOW // 16)


def test_without_clearing_it_is_left_and_reaches_no_further(tmp_path: Path) -> None:
    """An agent without clearing keeps it. Whatever it does, it does within the depth that would be cleared: a
    pattern below stays whole.
    """
    with hurried(Careless(tmp_path, wrapper=scannable([]))) as agent:
        agent.start()
        in_registers, in_memory = left_after_a_turn(agent)
        assert in_registers > 0
        assert in_memory > 1000
        pattern = os.urandom(16)
        with registers.stopped(agent.pid):
            bottom = registers.stack_pointer(agent.pid) - REACH
            plant_below(agent.pid, bottom, pattern, BELOW)
        life = SecretLife(agent)
        life.begin()
        life.use(500)
        life.change_slots()
        life.lock()
        life.unlock()
        with Path(f"/proc/{agent.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(bottom - BELOW)
            assert memory.read(BELOW) == pattern * (BELOW // 16)
