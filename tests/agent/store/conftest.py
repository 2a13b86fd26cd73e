"""A store on disk, made once and copied for each test: alembic takes its time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.agent.store.builders import Latest, make_store, opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from keyholt_agent.store import Store


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a new store; to be copied, never opened."""
    directory = tmp_path_factory.mktemp("pristine") / "state"
    make_store(directory)
    return directory


@pytest.fixture
def state(pristine: Path, tmp_path: Path) -> Path:
    """A state directory of the test's own, with a new store."""
    shutil.copytree(pristine, tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def latest() -> Latest:
    """What ``store`` tells of latest versions."""
    return Latest()


@pytest.fixture
async def store(state: Path, latest: Latest) -> AsyncGenerator[Store, None]:
    """The store in ``state``, open and taking writes."""
    async with opened(state, latest) as store:
        yield store
