"""Whether an agent came out of something as it went in: serving, with nothing held and nothing written.

- It serves a second connection while the first is still misbehaving, and after.
- Descriptors, connections, locked memory and the files of the store are the same after as before.
- Its resident memory has not grown by more than what the allocator may keep.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.agent_process import PATIENCE, poll
from tests.support.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.agent_process import AgentProcess

__all__ = ["ARENA", "KEPT", "KEPT_PATH", "Footprint", "admits", "check_serves", "keep_one", "unharmed"]

KEPT_PATH: Final = "kept/by/all"
KEPT: Final = b"the value that has to survive all of it"

MAX_GROWTH: Final = 8 * 1024 * 1024
"""Bytes of resident memory that one kind of bad input may leave to the allocator."""

ARENA: Final = 32 * 1024 * 1024
"""Bytes of locked memory, which stay resident once a payload has touched them, and are bounded by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What an agent holds and has stored."""

    descriptors: list[str]
    connections: int
    memory_used: int
    files: dict[str, str]

    @classmethod
    def of(cls, agent: AgentProcess) -> Footprint:
        with agent.connect() as client:
            status = client.status()
            return cls(
                descriptors=agent.descriptors(),
                connections=status["connections"],
                memory_used=status["memory_used"],
                files=_digests(agent.state),
            )


def keep_one(agent: AgentProcess) -> None:
    """Store the value that ``check_serves`` fetches."""
    with agent.connect() as client:
        client.put(KEPT_PATH, KEPT)


def check_serves(agent: AgentProcess) -> dict[str, Any]:
    """A new connection gets a value, and the agent's status."""
    with agent.connect() as client:
        assert client.get(KEPT_PATH) == KEPT
        return client.status()


def admits(agent: AgentProcess) -> bool:
    """Whether the agent takes one more connection; it may be about to notice that others have closed."""
    try:
        agent.connect().close()
    except WireError as error:
        if error.code != "resource_exhausted":
            raise
        return False
    return True


@contextmanager
def unharmed(
    agent: AgentProcess, *, growth: int = MAX_GROWTH, same_files: bool = True, patience: float = PATIENCE
) -> Iterator[None]:
    """Check that what the block does to an agent that holds ``KEPT`` leaves it as it was."""
    check_serves(agent)
    before, resident = Footprint.of(agent), agent.resident()
    yield
    poll(lambda: admits(agent))
    check_serves(agent)
    last: list[Footprint] = []

    def settled() -> bool:
        last[:] = [Footprint.of(agent)]
        return _same(before, last[0], same_files=same_files)

    try:
        poll(settled, patience=patience)
    except AssertionError:
        raise AssertionError(f"before: {before}\nafter: {last}") from None
    grown = agent.resident() - resident
    assert grown <= growth, f"resident memory grew by {grown} bytes"


def _same(before: Footprint, after: Footprint, *, same_files: bool) -> bool:
    return (
        before.descriptors == after.descriptors
        and before.connections == after.connections
        and before.memory_used == after.memory_used
        and (not same_files or before.files == after.files)
    )


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
