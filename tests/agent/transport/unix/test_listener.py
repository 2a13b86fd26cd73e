"""The sockets of a path: whose directories they may lie in, and what closing does where they are gone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.config import UnixListenSettings
from keyholt_agent.transport.unix.listener import ListenError, UnixListener
from tests.support.users import need_other_uids

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


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720])
def test_directory_that_others_write_to(tmp_path: Path, mode: int) -> None:
    """Not even a sticky one: what lies there under the socket's name may be another's already."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)
    remedy = "use a directory below" if mode == 0o1777 else "chmod go-w"
    with pytest.raises(ListenError, match=rf"others may write to {tmp_path}/run .*: {remedy} {tmp_path}/run"):
        UnixListener.bind(tmp_path / "run" / "agent.sock", UnixListenSettings())
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("mode", [0o700, 0o710, 0o750, 0o755])
def test_directory_that_others_may_enter(tmp_path: Path, mode: int) -> None:
    """A group that is served has to come as far as the socket, and no further."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)
    UnixListener.bind(tmp_path / "run" / "agent.sock", UnixListenSettings(group="0", mode="0660")).close()


def test_directory_above_that_others_write_to(tmp_path: Path) -> None:
    """They could put another directory in the place of the socket's; where root's is sticky they cannot."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(ListenError, match=f"others may write to {above} "):
        UnixListener.bind(above / "run" / "agent.sock", UnixListenSettings())
    assert list(above.iterdir()) == []
    above.chmod(0o1777)
    UnixListener.bind(above / "run" / "agent.sock", UnixListenSettings()).close()


def test_directory_of_another_user(tmp_path: Path) -> None:
    """There, above, or behind a link of theirs."""
    need_other_uids()
    theirs = tmp_path / "theirs"
    (theirs / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to("theirs/run")
    os.chown(theirs, 4711, 4711)
    for path in (theirs / "agent.sock", theirs / "run" / "agent.sock", tmp_path / "link" / "agent.sock"):
        with pytest.raises(ListenError, match=f"{theirs} belongs to uid 4711"):
            UnixListener.bind(path, UnixListenSettings())
