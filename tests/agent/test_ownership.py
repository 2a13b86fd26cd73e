"""Whose files and directories are believed, on real paths with real owners."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from keyholt_agent.ownership import (
    OwnershipError,
    make_own_directory,
    open_own_file,
    require_own_file,
    require_way,
)
from tests.support.other_server import STRANGER, reachable
from tests.support.users import need_other_uids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def give(path: Path, uid: int = STRANGER) -> None:
    """Make a file, a directory or a link another user's."""
    need_other_uids()
    os.chown(path, uid, uid, follow_symlinks=False)


def test_a_way_is_followed_as_the_kernel_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to files and directories, relative and absolute, ``..`` behind them, and a relative beginning."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (tmp_path / "absolute").symlink_to(deep)
    (tmp_path / "relative").symlink_to("a/./b")
    (deep / "back").symlink_to("../../relative/file")
    monkeypatch.chdir(tmp_path)
    for way in ("a/b/file", "absolute/file", "relative/file", "absolute/back", "absolute/../b/file"):
        for path in (tmp_path / way, type(tmp_path)(way)):
            assert os.path.samefile(require_way(path), deep / "file")
            assert str(require_way(path)) == os.path.realpath(path)


def test_a_way_that_ends_early(tmp_path: Path) -> None:
    """What is missing is told by the error of the kernel, and so is a circle of links."""
    with pytest.raises(FileNotFoundError):
        require_way(tmp_path / "none" / "file")
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        require_way(tmp_path / "ring")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        require_way(tmp_path / "file" / "below")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o720])
def test_a_directory_above_that_others_write_to(tmp_path: Path, mode: int) -> None:
    """The group as well as everybody; the message says which directory, and what to do."""
    above, below = tmp_path / "above", tmp_path / "above" / "below"
    below.mkdir(parents=True)
    require_way(below)
    above.chmod(mode)
    with pytest.raises(OwnershipError, match=rf"others may write to {above} \(mode {mode:04o}\): chmod go-w"):
        require_way(below)
    with pytest.raises(OwnershipError):
        make_own_directory(below / "new")
    assert not (below / "new").exists()


def test_a_directory_above_of_another_user(tmp_path: Path) -> None:
    """Its owner may move what lies in it, whatever the mode; root's own, the control, is believed."""
    above, below = tmp_path / "above", tmp_path / "above" / "below"
    below.mkdir(parents=True)
    give(above)
    above.chmod(0o555)
    with pytest.raises(OwnershipError, match=rf"{above} belongs to uid {STRANGER}.*chown it to root"):
        require_way(below)
    give(above, 0)
    require_way(below)


def test_a_sticky_directory(tmp_path: Path) -> None:
    """Root's is good on the way, for nobody moves there what is another's; as the end of it it is not."""
    sticky, below = tmp_path / "sticky", tmp_path / "sticky" / "below"
    sticky.mkdir()
    sticky.chmod(0o1777)
    make_own_directory(below)
    assert below.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OwnershipError, match="others may write to"):
        make_own_directory(sticky)
    below.chmod(0o1777)
    give(below)
    with pytest.raises(OwnershipError, match="belongs to uid"):
        require_way(below / ".." / "below")


AS_ANOTHER = """
import encodings.ascii, os, pathlib, sys  # codecs are imported late, and this user may not reach them
from keyholt_agent.ownership import OwnershipError, require_way
os.setgroups([]); os.setresgid(*[int(sys.argv[1])] * 3); os.setresuid(*[int(sys.argv[1])] * 3)
try: require_way(pathlib.Path(sys.argv[2]))
except OwnershipError as error: print(error)
else: print("good")
"""


def test_a_sticky_directory_of_a_user(tmp_path: Path) -> None:
    """Only root's is good, not the agent's own: it is no place that a system keeps so for everybody."""
    below = reachable(tmp_path) / "above" / "below"
    below.mkdir(parents=True)
    reachable(below)
    said: list[str] = []
    for uid, mode in ((STRANGER, 0o1777), (0, 0o1777), (STRANGER, 0o755), (STRANGER + 1, 0o755)):
        give(below.parent, uid)
        below.parent.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER, str(STRANGER), str(below)],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        said.append(done.stdout.strip())
    assert said[0].startswith(f"others may write to {below.parent} (mode 1777)")
    assert said[1:3] == ["good", "good"]
    assert said[3].startswith(f"{below.parent} belongs to uid {STRANGER + 1}")
    assert f"chown it to root or uid {STRANGER}, or" in said[3]


def test_a_link_s_own_directory_and_owner(tmp_path: Path) -> None:
    """A link leads where its directory's owner wants it to; in a sticky one, where its own owner does."""
    good, open_, sticky = (tmp_path / name for name in ("good", "open", "sticky"))
    for folder in (good, open_, sticky):
        folder.mkdir()
        (folder / "link").symlink_to(good)
    open_.chmod(0o777)
    sticky.chmod(0o1777)
    assert require_way(sticky / "link") == require_way(good)
    with pytest.raises(OwnershipError, match=f"others may write to {open_}"):
        require_way(open_ / "link")
    (good / "far").symlink_to(open_ / "link")
    with pytest.raises(OwnershipError, match=f"others may write to {open_}"):
        require_way(good / "far")
    give(sticky / "link")
    with pytest.raises(OwnershipError, match=f"{sticky}/link belongs to uid"):
        require_way(sticky / "link")


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_directories_that_are_made(tmp_path: Path, umask: int) -> None:
    """Each 0700, those above as well, whatever the umask; one that is there stays as it is."""
    before = os.umask(umask)
    try:
        make_own_directory(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    for name in ("a", "a/b", "a/b/c"):
        assert (tmp_path / name).stat().st_mode & 0o7777 == 0o700
    (tmp_path / "a").chmod(0o755)
    make_own_directory(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        make_own_directory(tmp_path / "file")


def test_a_directory_of_another_user(tmp_path: Path) -> None:
    """It could be emptied and filled by them."""
    (tmp_path / "own").mkdir()
    make_own_directory(tmp_path / "own")
    give(tmp_path / "own")
    with pytest.raises(OwnershipError, match="belongs to uid 4711"):
        make_own_directory(tmp_path / "own")


def to_fifo(path: Path) -> None:
    """Put a FIFO that nobody writes to in the place of a file."""
    path.unlink()
    os.mkfifo(path)


def to_folder(path: Path) -> None:
    """Put a directory in the place of a file."""
    path.unlink()
    path.mkdir()


def to_device(path: Path) -> None:
    """Put a link to a device in the place of a file."""
    path.unlink()
    path.symlink_to("/dev/null")


def read(path: Path) -> bytes:
    """What a file says that is believed."""
    with os.fdopen(open_own_file(path), "rb") as file:
        return file.read()


def test_a_file_that_is_believed(tmp_path: Path) -> None:
    """Read through a link as well; readable to others is no harm here."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o644)
    (tmp_path / "link").symlink_to("file")
    assert read(tmp_path / "file") == read(tmp_path / "link") == b"x"


@pytest.mark.parametrize(
    "spoil,sentence",
    [
        (lambda path: path.chmod(0o622), "others may write to"),
        (lambda path: path.chmod(0o660), "others may write to"),
        (give, "belongs to uid 4711"),
        (lambda path: path.parent.chmod(0o1777), ""),
        (lambda path: path.parent.chmod(0o777), "others may write to"),
        (lambda path: give(path.parent), "belongs to uid 4711"),
        (to_fifo, "no regular file"),
        (to_folder, "no regular file"),
        (to_device, "no regular file"),
    ],
)
def test_a_file_that_is_not(tmp_path: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    """Written by others, owned by another, in their directory, or no file: refused, with the remedy.

    A FIFO, which nobody writes to, keeps nobody waiting. A sticky directory of root's is no harm.
    """
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("x")
    spoil(path)
    with ExitStack() as stack:
        if sentence:
            stack.enter_context(pytest.raises(OwnershipError, match=sentence))
        read(path)


def test_a_file_closed_to_others(tmp_path: Path) -> None:
    """Where nobody else may read either, the message says so, and the mode that helps."""
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(0o600)
    require_own_file(path, path.stat())
    for mode, sentence in (
        (0o640, "others may read"),
        (0o602, "others may write"),
        (0o601, "others may read"),
    ):
        path.chmod(mode)
        with pytest.raises(OwnershipError, match=rf"{sentence}.* \(mode {mode:04o}\): chmod"):
            require_own_file(path, path.stat())


NAMESPACED = """
import pathlib, sys
from keyholt_agent.ownership import OwnershipError, make_own_directory, require_way
for work in (require_way, make_own_directory):
    try: work(pathlib.Path(sys.argv[1]))
    except OwnershipError as error: print("refused:", error)
    else: print("good")
"""


def test_in_a_user_namespace(tmp_path: Path) -> None:
    """A directory on the way whose owner has no number there counts as root's; as the end of it it does not.

    Outside, where 65534 is a user like another, it is refused on the way as well.
    """
    need_other_uids()
    above, below = tmp_path / "above", tmp_path / "above" / "below"
    below.mkdir(parents=True)
    give(above, 65534)
    inside, outside = (
        subprocess.run(
            [*prefix, sys.executable, "-c", NAMESPACED, str(path)],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout.splitlines()
        for prefix, path in ((["unshare", "--user", "--map-root-user"], below), ([], below))
    )  # fmt: skip
    assert inside == ["good", "good"]
    assert all(line.startswith("refused:") for line in outside)
    ends = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", NAMESPACED, str(above)],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert ends[0] == "good"
    assert ends[1].startswith("refused:")
