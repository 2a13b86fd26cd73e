"""The command ``edit``: the newest value in an editor, and what comes of it as the next version.

- Somebody else's write meanwhile is not overwritten: a write is on top of the version that was edited.
- What was typed is not lost to a conflict, a lock or an agent that is away: it can be edited again, and is
  written again then. After a conflict the other's value lies beside it.
- The newline that editors put at the end of a last line is not part of a value that had none.
"""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keyholt.cli.command import Command, Kind, Parameter
from keyholt.cli.connection import connected
from keyholt.cli.errors import CancelledError, InputFileError, UsageError
from keyholt.cli.offering import unlocked
from keyholt.cli.output import say, show
from keyholt.cli.terminal import Terminal
from keyholt_protocol.errors import ConflictError, KeyholtError, NotFoundError

if TYPE_CHECKING:
    from keyholt.blocking import Client

__all__ = ["COMMANDS"]

NEWEST: Final = ".newest"
"""Behind the name of the file, of what somebody else has written meanwhile."""

LONGEST_NAME: Final = 100
"""Characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What is edited: a version, 0 where there is none, and its value."""

    version: int
    value: bytearray

    def wipe(self) -> None:
        """Zero the value."""
        self.value[:] = bytes(len(self.value))


def edit(options: Namespace) -> int:
    """The command ``edit``."""
    # Imported here: no other command needs what they ask the kernel with, and help is to stay fast.
    from keyholt.cli.editor import edit_text, find_editor

    editor, name = find_editor(), _file_name(options.path)
    with unlocked(options) as agent:
        base = _newest(agent, options.path)
    text = bytearray(base.value)
    beside: dict[str, bytearray] = {}
    try:
        while True:
            edited = edit_text(editor, {name: text, **beside})
            text[:] = bytes(len(text))
            text = edited
            _drop_added_newline(text, base.value)
            if text == base.value:
                return _tell(options, base.version, changed=False)
            try:
                return _tell(options, _write(options, text, base), changed=True)
            except ConflictError as error:
                _ask_to_go_on(error)
                newest = _newest_or_ask(options)
                if newest is not None:
                    base.wipe()
                    base = newest
                    beside = {name + NEWEST: base.value}
            except (KeyholtError, InputFileError) as error:
                _ask_to_go_on(error)
    finally:
        base.wipe()
        text[:] = bytes(len(text))


def _newest(agent: Client, path: str) -> _Base:
    try:
        secret = agent.get(path)
    except NotFoundError:
        return _Base(version=_version_without_value(agent, path), value=bytearray())
    with secret:
        value = bytearray(secret.view)
        if not _is_text(value):
            value[:] = bytes(len(value))
            raise UsageError(f"the value of {path!r} is not text; write it with `keyholt put --file`")
        return _Base(version=secret.version, value=value)


def _newest_or_ask(options: Namespace) -> _Base | None:
    """What is there after a conflict; None where it cannot be had, and the text shall be edited again.

    Raises:
        Exception: why it cannot be had, where the text is given up.
    """
    try:
        with connected(options) as agent:
            return _newest(agent, options.path)
    except (KeyholtError, UsageError) as error:
        _ask_to_go_on(error)
        return None


def _version_without_value(agent: Client, path: str) -> int:
    """What the newest version is where it is not given out: 0 if there is none, or it is deleted."""
    try:
        history = agent.history(path)
    except NotFoundError:
        return 0
    return 0 if history.deleted is not None else history.latest


def _is_text(value: bytearray) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return 0 not in value


def _drop_added_newline(text: bytearray, before: bytearray) -> None:
    """Take away the newline that the editor has put behind a last line; a new text of many lines keeps it."""
    added = text.endswith(b"\n") and not before.endswith(b"\n")
    if added and (before or text.count(b"\n") == 1):
        del text[-1:]


def _write(options: Namespace, text: bytearray, base: _Base) -> int:
    if not text:
        raise InputFileError("the value is empty; `keyholt put --allow-empty` writes one that is")
    with connected(options) as agent:
        # Neither labels nor an expiry: the version before has them, and an expiry that has passed meanwhile
        # could not be given anew.
        result = agent.put(options.path, text, if_version=base.version)
    return result.version


def _ask_to_go_on(error: Exception) -> None:
    """Return where what was typed shall be edited again.

    Raises:
        Exception: the error, where it is given up, or nobody can be asked.
    """
    try:
        with Terminal("") as terminal:
            terminal.show(f"not written: {error}\n")
            if isinstance(error, ConflictError):
                terminal.show(
                    f"what is there by then will lie beside the text, its name ending in {NEWEST}\n"
                )
            terminal.read_line("Enter edits your text again, Ctrl-D gives it up: ", 1)
    except (UsageError, CancelledError):
        raise error from None


def _tell(options: Namespace, version: int, *, changed: bool) -> int:
    if options.json:
        show({"path": options.path, "version": version, "changed": changed})
    else:
        said = f"version {version}" if changed else "unchanged, so there is no new version"
        say(f"{options.path}: {said}")
    return 0


def _file_name(path: str) -> str:
    """The last part of a path as a file's name, by which editors choose colours."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.rpartition("/")[2])[:LONGEST_NAME]
    return name if name[:1].isalnum() else f"_{name}"


COMMANDS: Final = (
    Command(
        words=("edit",),
        help="Opens the newest value in $VISUAL or $EDITOR, on a file in memory that is gone with the "
        "editor, and writes what it becomes as the next version.",
        run=edit,
        json="an object: path, version (the newest now), changed (whether it was written)",
        parameters=(
            Parameter(
                names=("PATH",),
                help="the secret's path; one that does not exist begins empty",
                kind=Kind.SECRET,
            ),
        ),
    ),
)
