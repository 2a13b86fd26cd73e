"""`keyholt run` when nothing is wrong: everything unusual is left to ``keyholt.cli.running``, which
reports.
"""

from __future__ import annotations

import posix

from keyholt.address import choose
from keyholt.cli.descriptors import STDERR, write_all
from keyholt.cli.environment import assemble, fill, references, replace_process
from keyholt.cli.fast import SilentError, fetch, pick_from, tell_overdue, tell_silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["run"]

FILE_TYPE: Final = 0o170000
REGULAR_FILE: Final = 0o100000
"""The kind of a file in its mode (inode(7)); the module `stat` would have to be imported."""


def run(words: list[str], address: str | None) -> int | None:
    """Become the command; returns ``None`` where the full path is needed, or the status of a failed start."""
    files, command = _split(words)
    if not command:
        return None
    try:
        if not all(_can_be_read_again(file) for file in files):
            return None
        environment = assemble(files, posix.environ)
        wanted = references(environment)
        if wanted:
            values = fetch(choose(address), [(path, version) for path, version, _ in wanted.values()])
            for (name, (path, _, field)), value in zip(wanted.items(), values, strict=True):
                part = value if field is None else pick_from(value, field, path)
                fill(environment, name, part)
                part[:] = bytes(len(part))
    except TimeoutError:
        return tell_overdue()
    except SilentError:
        return tell_silent(choose(address))
    except Exception:  # whatever it is, the full path meets it again and says it well
        return None
    status, problem = replace_process(command, environment)
    write_all(STDERR, f"keyholt: {problem}\n".encode(errors="replace"))
    return status


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The files of ``--env-file`` and the command after ``--``; no command if there is any other option."""
    files: list[str] = []
    while len(words) > 1 and words[0] == "--env-file":
        files.append(words[1])
        words = words[2:]
    return files, words[1:] if words and words[0] == "--" else []


def _can_be_read_again(file: str) -> bool:
    """Whether the full path finds the same in it: what was read from a pipe is gone from there.

    Raises:
        OSError: it is not there.
    """
    return posix.stat(file).st_mode & FILE_TYPE == REGULAR_FILE
