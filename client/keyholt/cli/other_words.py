"""What other programs call their commands, and which of ours does that.

- The letters alone lead astray: from ``delete`` to ``undelete``, from ``export`` to ``import``, from ``set``
  to ``get``. So a word is looked up here first, and a misspelt one is held against these and our own alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

__all__ = ["OTHER_WORDS", "suggestion"]

_MEANINGS: Final[dict[tuple[str, ...], str]] = {
    ("get",): "show read cat print view fetch reveal lookup decrypt clip value",
    ("put", "add"): "set add insert write store create new save encrypt",
    ("put", "edit"): "update replace modify",
    ("generate",): "gen pwgen random password make",
    ("rm", "remove"): "delete del remove erase unset trash drop rm",
    ("purge", "destroy"): "shred wipe forget",
    ("mv",): "move rename",
    ("cp",): "copy clone duplicate",
    ("list",): "ls dir tree show-all keys",
    ("find",): "search grep",
    ("diff",): "compare",
    ("history",): "log versions revisions",
    ("undelete",): "restore recover undo revert",
    ("run", "export"): "env",
    ("run", "inject"): "exec with source",
    ("inject",): "template render substitute fill",
    ("import",): "load ingest migrate",
    ("unlock",): "login signin open unseal",
    ("lock",): "logout signout close seal",
    ("init",): "setup initialize initialise bootstrap",
    ("slot", "change"): "passwd chpass rekey-passphrase",
    ("rekey",): "rotate",
    ("status",): "info state whoami ping",
    ("doctor",): "check diagnose verify",
    ("edit",): "vi vim",
}

NEAR: Final = 0.7
"""How like a word of ours, from 0 to 1, is taken for misspelt (``difflib.SequenceMatcher.ratio``)."""

OTHER_WORDS: Final = {word: ours for ours, words in _MEANINGS.items() for word in words.split()}
"""Our names that may be meant by a word; those that a group of commands has are told by where it stands."""


def suggestion(word: str, names: Sequence[str]) -> str:
    """The middle of a sentence about a word that is no command: what of ``names`` may be meant, and "see"."""
    word = word.lower()
    meant = OTHER_WORDS.get(word)
    if meant is None:
        near = difflib.get_close_matches(word, [*names, *OTHER_WORDS], 1, NEAR)
        meant = OTHER_WORDS.get(near[0], (near[0],)) if near else ()
    ours = [repr(name) for name in meant if name in names]
    return f"did you mean {' or '.join(ours)}? See" if ours else "see"
