"""Writes that an agent has acknowledged, kept outside of it, and the check that it still has every one.

- An entry is made after the answer was read, never before: whatever is in it must be readable for ever.
- What was sent and not answered may be there or not; if it is, it is whole.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.agent_process import poll
from tests.support.wire import ClosedError, WireClient, WireError

if TYPE_CHECKING:
    from tests.support.agent_process import AgentProcess

__all__ = ["Ledger", "Writers"]

PATHS: Final = 12
"""Few, so that writers meet on the same path."""


@dataclass
class Ledger:
    """What was acknowledged and what was tried.

    Attributes:
        acknowledged: the value of each path and version.
        destroyed: paths and versions whose destruction was acknowledged.
        tried: every value ever sent for a path.
    """

    acknowledged: dict[tuple[str, int], bytes] = field(default_factory=dict[tuple[str, int], bytes])
    destroyed: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    tried: dict[str, set[bytes]] = field(default_factory=dict[str, set[bytes]])

    def put(self, client: WireClient, path: str, value: bytes) -> int:
        """Write, and enter it once it is acknowledged; the version."""
        self.tried.setdefault(path, set()).add(value)
        version = client.put(path, value)
        assert (path, version) not in self.acknowledged, "one version was given to two writes"
        self.acknowledged[path, version] = value
        return version

    def check(self, client: WireClient, *, newest: int = 100) -> None:
        """Every acknowledged write (the ``newest`` ones, and the latest of each path) is there, and whole."""
        latest: dict[str, int] = {}
        for path, version in self.acknowledged:
            latest[path] = max(version, latest.get(path, 0))
        entries = {*list(self.acknowledged)[-newest:], *latest.items()}
        for path, version in sorted(entries):
            if (path, version) not in self.destroyed:
                assert client.get(path, version=version) == self.acknowledged[path, version]
        for path, tried in self.tried.items():
            self._check_latest(client, path, latest.get(path, 0), tried)

    def check_destroyed(self, client: WireClient) -> None:
        """What was destroyed stays so."""
        for path, version in self.destroyed:
            assert client.call("secret.get", path=path, version=version).code == "not_found"

    @staticmethod
    def _check_latest(client: WireClient, path: str, acknowledged: int, tried: set[bytes]) -> None:
        reply = client.call("secret.get", path=path)
        if reply.code == "not_found":
            assert not acknowledged, f"{path} is lost, version {acknowledged} was acknowledged"
            return
        assert reply.expect().result["version"] >= acknowledged
        assert reply.payload in tried


class Writers:
    """Threads that write to an agent, each over its own connection, until it is gone."""

    def __init__(self, agent: AgentProcess, ledger: Ledger, count: int, seed: int) -> None:
        self._agent = agent
        self._ledger = ledger
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self.written = 0
        self._threads = [threading.Thread(target=self._write, args=(seed * 100 + n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_written(self, count: int) -> None:
        """Wait until so many writes were acknowledged, or one of the writers failed."""
        poll(lambda: self.written >= count or self.failures)

    def join(self) -> None:
        """Wait for all of them; the agent has to be gone, or going."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.failures, self.failures

    def _write(self, seed: int) -> None:
        chance = random.Random(seed)
        try:
            with self._agent.connect() as client:
                while True:
                    self._write_one(client, chance)
        except (ClosedError, ConnectionError, FileNotFoundError):
            return
        except WireError as error:
            self.failures.append(error)
        except BaseException as error:
            self.failures.append(error)

    def _write_one(self, client: WireClient, chance: random.Random) -> None:
        path = f"crash/{chance.randrange(PATHS)}"
        size = chance.choice((0, 20, 48, 48, 200, 3000, 3000, 60_000))
        value = chance.randbytes(8) + bytes(size)
        with self._lock:
            self._ledger.tried.setdefault(path, set()).add(value)
        version = client.put(path, value)
        with self._lock:
            assert (path, version) not in self._ledger.acknowledged, "one version was given to two writes"
            self._ledger.acknowledged[path, version] = value
            self.written += 1
