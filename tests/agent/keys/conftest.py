from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def pages() -> Iterator[Arena]:
    """Locked memory for a module's tests."""
    arena = Arena(open_backing("auto", 1024 * 1024))
    yield arena
    arena.close()


@pytest.fixture
def arena(pages: Arena) -> Iterator[Arena]:
    """Locked memory, of which every slot has come back when the test is over."""
    before = pages.usage.slots
    yield pages
    assert pages.usage.slots == before
