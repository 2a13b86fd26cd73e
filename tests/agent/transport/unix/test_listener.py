"""The sockets of a path: what closing does where the path is out of reach by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyholt_agent.config import UnixListenSettings
from keyholt_agent.transport.unix.listener import UnixListener

if TYPE_CHECKING:
    from pathlib import Path


def test_closes_where_its_path_is_out_of_reach(tmp_path: Path) -> None:
    """The socket and the claim on its path are let go of all the same, and nothing is raised."""
    directory = tmp_path / "run"
    listener = UnixListener.bind(directory / "agent.sock", UnixListenSettings())
    directory.rename(tmp_path / "moved")
    directory.write_text("a file in the directory's place")
    listener.close()
    assert listener.socket.fileno() == -1
    again = UnixListener.bind(tmp_path / "moved/agent.sock", UnixListenSettings())
    again.close()
    assert not (tmp_path / "moved/agent.sock").exists()
