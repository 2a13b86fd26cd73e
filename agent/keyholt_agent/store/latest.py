"""Who keeps the latest versions of secrets in memory, and how the store tells them what has changed.

``settle`` works in the trio thread, after the commit, in the order in which commands were run.
"""

from __future__ import annotations

from typing import Final, Protocol

from keyholt_agent.store.commands import AnyCommand, Effect, SecretCommand
from keyholt_agent.store.rows import SecretVersion

__all__ = ["NOBODY", "LatestVersions", "settle"]


class LatestVersions(Protocol):
    """A cache of latest versions; the store only ever tells it, and asks it nothing but its epoch.

    Attributes:
        epoch: raised by ``drop``; an effect asked for in an earlier epoch may only evict.
    """

    @property
    def epoch(self) -> int: ...

    def keep(self, path: str, row: SecretVersion) -> None:
        """This is the latest version of ``path``, which is live."""
        ...

    def evict(self, path: str) -> None:
        """What was known of ``path`` does not hold any more."""
        ...

    def drop(self) -> None:
        """Nothing that was known holds any more."""
        ...


class _Nobody:
    epoch = 0

    def keep(self, path: str, row: SecretVersion) -> None:
        pass

    def evict(self, path: str) -> None:
        pass

    def drop(self) -> None:
        pass


NOBODY: Final[LatestVersions] = _Nobody()
"""Keeps nothing, for a store whose every read is to come from the disk."""


def settle(latest: LatestVersions, command: AnyCommand, answer: object, *, recent: bool) -> None:
    """Tell of a command that succeeded.

    Args:
        recent: False when everything was dropped after the command was asked for: it may then only evict.
    """
    for path in command.evicts:
        latest.evict(path)
    if not isinstance(command, SecretCommand) or command.effect is Effect.NONE:
        return
    if (
        recent
        and command.effect is Effect.KEEP
        and isinstance(answer, SecretVersion)
        and not answer.destroyed
    ):
        latest.keep(command.path, answer)
    else:
        latest.evict(command.path)
