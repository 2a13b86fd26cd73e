"""Ten thousand operations on every code path, with environments that shift the stack by every step there is.

Frames that hold vector registers are aligned to 64 bytes; where the stack begins depends on the environment's
size, in steps of 16.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.memory_scan import scan_process, scan_registers, scannable
from tests.support.registers import wait_blocked
from tests.support.secret_life import SecretLife

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torture


@pytest.mark.parametrize("padding", [0, 16, 32, 48, 4000])
@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_nothing_is_left(tmp_path: Path, path: CodePath, padding: int) -> None:
    """Of values, passphrases and keys, when unlocked and when locked, in any register or memory."""
    environment = replace(path, padding=padding).variables
    with AgentProcess(tmp_path, environment=environment, wrapper=scannable([])) as agent:
        agent.start()
        life = SecretLife(agent)
        life.begin()
        for operations in (0, 10_000):
            life.use(operations)
            check(life)
            life.lock()
            check(life)
            life.unlock()
        life.change_slots()
        check(life)


def check(life: SecretLife) -> None:
    """Nothing that the agent must not leave is found."""
    keys, traces = life.keys()
    wait_blocked(life.agent.pid)
    needles = list({**life.given, **keys, **traces}.values())
    assert scan_registers(life.agent.pid, needles).total == 0
    assert scan_process(life.agent.pid, needles).total == 0
