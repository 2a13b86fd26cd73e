"""A file is written whole or not at all, and nothing but a regular file is ever replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from keyholt.cli.errors import UsageError
from keyholt.cli.outfile import whole_file

MODE = 0o600


def write_whole(file: str, data: bytes, mode: int) -> None:
    """Write ``data`` as the file's only content."""
    with whole_file(file, mode) as write:
        write(data)


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
    with pytest.raises(OSError, match="No space") as caught:
        write_whole(str(out), b"secret", MODE)
    assert caught.value.filename == str(out)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    """The work for the content is not begun, and the error names the file that was asked for."""
    out = tmp_path / "none" / "out"
    with pytest.raises(FileNotFoundError) as caught, whole_file(str(out), MODE):
        pytest.fail("the work was begun")
    assert caught.value.filename == str(out)


def test_work_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """What is raised in between comes out as it is, and nothing is left beside the file."""
    out = tmp_path / "out"
    out.write_bytes(b"old")

    def fail() -> None:
        with whole_file(str(out), MODE) as write:
            write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (out.read_bytes(), list(tmp_path.iterdir())) == (b"old", [out])
