"""The user's editor, on a text that no other user sees and that is left nowhere.

- The text stands in a folder of the editor's own (``keyholt.cli.private_folder``), its temporary files too.
- Editors that are known are told to keep neither swap, backup nor undo files, nor a history of what was cut.
- One that hands the file to a program which runs already cannot be used: that one does not see the folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from typing import Final

from keyholt.cli.descriptors import read_all
from keyholt.cli.errors import EditorError, UsageError
from keyholt.cli.private_folder import PrivateFolder, choose_place

__all__ = ["edit_text", "find_editor"]

USUAL: Final = "vi"
"""Where neither variable names one (POSIX, as of crontab and more)."""

_VIM: Final = ("-n", "-i", "NONE", "-c", "set noswapfile nobackup nowritebackup noundofile")
_EMACS: Final = (
    "--eval",
    "(setq make-backup-files nil auto-save-default nil create-lockfiles nil kill-buffer-query-functions nil)",
)

QUIET: Final[Mapping[str, tuple[str, ...]]] = {
    "vim": _VIM,
    "vimx": _VIM,
    "view": _VIM,
    "nvim": _VIM,
    "emacs": _EMACS,
    "nano": ("-I",),  # without nanorc: that is where backups and histories are turned on
}
"""Options by the name of the program, up to its first dot or hyphen: ``vim.basic``, ``emacs-nox``."""

ELSEWHERE: Final = frozenset({"emacsclient", "code", "codium", "subl", "gedit", "gvim", "atom", "zed"})
"""Programs that hand the file to another, or leave their caller waiting for nothing."""


def find_editor() -> list[str]:
    """The editor's command, with options that keep it from leaving copies; the file is still to follow.

    Raises:
        UsageError: it is not there, or cannot be used here; says what to set.
    """
    variable = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name, "").strip()), None)
    try:
        command = shlex.split(USUAL if variable is None else os.environ[variable])
    except ValueError:
        raise UsageError(f"${variable} has a quote that is not closed") from None
    found = shutil.which(command[0])
    if found is None:
        raise UsageError(f"there is no editor {command[0]!r}; set VISUAL or EDITOR to one that is installed")
    names = [os.path.basename(path) for path in (command[0], os.path.realpath(found))]
    if any(name in ELSEWHERE for name in names):
        raise UsageError(
            f"{command[0]!r} opens the file in another program, which cannot see it; set VISUAL to an editor "
            "that runs in the terminal"
        )
    for name in names:
        quiet = QUIET.get(name.partition(".")[0].partition("-")[0])
        if quiet is not None:
            return [*command, *quiet]
    return command


def edit_text(command: list[str], files: Mapping[str, bytes | bytearray | memoryview]) -> bytearray:
    """Have the editor open the first of the files; gives what it holds afterwards, the caller's to wipe.

    Raises:
        EditorError: the editor failed, or the file is gone.
        NamespaceError: the kernel does not let the text be kept from others.
    """
    name, place = next(iter(files)), choose_place()
    variables = {**os.environ, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), place)}
    with PrivateFolder(place, [*command, os.path.join(place, name)], variables) as folder:
        for other, written in files.items():
            folder.write(other, written)
        try:
            status = folder.run()
        except OSError as error:
            raise EditorError(f"the editor {command[0]!r} cannot be run: {error.strerror}") from None
        if status != 0:
            raise EditorError(f"the editor {command[0]!r} ended with status {status}; nothing was written")
        try:
            descriptor = folder.open(name)
        except OSError:
            raise EditorError("the editor has removed the file; nothing was written") from None
        try:
            # All of it, which the folder bounds: one that is too long is refused, and edited again whole.
            read = read_all(descriptor)
        finally:
            os.close(descriptor)
        text = bytearray(read)
        read[:] = bytes(len(read))
        return text
