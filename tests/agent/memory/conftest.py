"""A small arena of each kind of locked memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.memory import Arena, Backend
from keyholt_agent.memory.backing import open_backing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["memfd_secret", "mlock"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each kind of locked memory in turn."""
    kind: Backend = request.param
    return kind


@pytest.fixture
def arena(backend: Backend) -> Iterator[Arena]:
    """A small arena of each kind."""
    arena = Arena(open_backing(backend, 64 * 1024))
    yield arena
    arena.close()
