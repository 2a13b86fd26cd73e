"""Locked memory, and keys of known bytes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.keys.custody import SoftwareCustody
from keyholt_agent.keys.randomness import KERNEL
from keyholt_agent.keys.recipients import Identity
from keyholt_agent.keys.wrapping_key import SoftwareKey
from keyholt_agent.memory import Arena
from keyholt_agent.memory.backing import open_backing
from tests.agent.keys.builders import ROOT_REFERENCE, STORE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyholt_agent.keys.envelope import KeyReference


@pytest.fixture(scope="module")
def pages() -> Iterator[Arena]:
    """Locked memory for a module's tests."""
    arena = Arena(open_backing("auto", 1024 * 1024))
    yield arena
    arena.close()


@pytest.fixture
def arena(pages: Arena) -> Iterator[Arena]:
    """Locked memory, of which every block has come back when the test is over."""
    before = pages.usage.blocks
    yield pages
    assert pages.usage.blocks == before


@pytest.fixture
def software_key(arena: Arena) -> Iterator[Callable[[KeyReference, bytes], SoftwareKey]]:
    """Makes keys of known bytes, which are released in the end."""
    made: list[SoftwareKey] = []

    def make(reference: KeyReference, key: bytes) -> SoftwareKey:
        buffer = arena.allocate(len(key))
        buffer.view[:] = key
        made.append(SoftwareKey(buffer, reference, KERNEL))
        return made[-1]

    yield make
    for one in made:
        one.release()


@pytest.fixture
def identity_of(arena: Arena) -> Iterator[Callable[[bytes], Identity]]:
    """Makes identities of known bytes, which are released in the end."""
    made: list[Identity] = []

    def make(secret: bytes) -> Identity:
        with arena.allocate(len(secret)) as buffer:
            buffer.view[:] = secret
            made.append(Identity(arena, buffer))
        return made[-1]

    yield make
    for one in made:
        one.release()


@pytest.fixture
def custody(arena: Arena, software_key: Callable[[KeyReference, bytes], SoftwareKey]) -> SoftwareCustody:
    """Keeps the master keys of ``STORE``."""
    return SoftwareCustody(arena, software_key(ROOT_REFERENCE, b"w" * 32), STORE, KERNEL)
