from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from keyholt.cli.errors import UsageError
from keyholt.cli.outfile import write_whole

MODE = 0o600


@pytest.mark.parametrize("name", ["out", "x" * 255])
def test_a_file_is_written_or_replaced(tmp_path: Path, name: str) -> None:
    """A new file and an old one hold what was written, with that mode; other names of the old one stay."""
    out, other = tmp_path / name, tmp_path / "other"
    write_whole(str(out), b"old", 0o644)
    other.hardlink_to(out)
    write_whole(str(out), b"new", MODE)
    assert (out.read_bytes(), stat.S_IMODE(out.stat().st_mode)) == (b"new", MODE)
    assert other.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {name, "other"}


def test_a_relative_name_is_of_this_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is written where the program runs."""
    monkeypatch.chdir(tmp_path)
    write_whole("out", b"x", MODE)
    assert (tmp_path / "out").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "directory"])
def test_what_is_no_regular_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    """A symbolic link is neither followed nor replaced, and no device, pipe or directory becomes a file."""
    out, target = tmp_path / "out", tmp_path / "target"
    if kind == "link":
        target.write_bytes(b"old")
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "directory":
        out.mkdir()
    else:
        out.symlink_to(target)
    before = out.lstat()
    with pytest.raises(UsageError, match="symbolic link" if "link" in kind else "no regular file"):
        write_whole(str(out), b"secret", MODE)
    assert out.lstat() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "target"}
    assert not target.exists() or target.read_bytes() == b"old"


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old content is there, and no part of the new."""
    out = tmp_path / "out"
    out.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(str(out), b"secret", MODE)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]
