"""The agent under measurement: a process with a store of its own, started as users start it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.processes import ServerProcess, program

import keyholt

__all__ = ["PASSPHRASE", "AgentProcess"]

PASSPHRASE: Final = b"a passphrase for the benchmark"


class AgentProcess(ServerProcess):
    """An agent with a store in ``directory``, which may have been made by one before it.

    Args:
        directory: everything that the agent writes is in it.
        core: to run on; None for any.
        settings: of the configuration, by dotted name; the defaults hold for the rest.
        wrapper: a command to run it under, which ends with it.
        launcher: what is run in the place of the installed program, with the same arguments.
    """

    def __init__(
        self,
        directory: Path,
        *,
        core: int | None = None,
        settings: Mapping[str, int] | None = None,
        wrapper: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        # The key derivation is measured apart: the least that the agent accepts will do.
        chosen = {"unlock.kdf_target": 0, **(settings or {})}
        configuration = directory / "agent.toml"
        configuration.write_text("".join(f"{name} = {value}\n" for name, value in chosen.items()), "utf-8")
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        address = directory / "run" / "agent.sock"
        command = [
            *wrapper,
            *pinned,
            *(launcher or [program("keyholt-agent")]),
            *("--config", str(configuration)),
            *("--socket", str(address)),
            *("--state-dir", str(directory / "state")),
        ]
        super().__init__(command, address, directory / "agent.log")

    def init(self) -> None:
        """Create the store."""
        with keyholt.connect(self.socket) as agent:
            agent.init(passphrase=PASSPHRASE)

    def unlock(self) -> None:
        with keyholt.connect(self.socket) as agent:
            agent.unlock(passphrase=PASSPHRASE)
