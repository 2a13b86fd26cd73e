"""Which editor is run, and with which options."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyholt.cli.editor import QUIET, find_editor
from keyholt.cli.errors import UsageError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of editors, the only one on the path; neither variable is set."""
    for name in ("vim.basic", "nano", "emacs-nox", "emacsclient", "ed"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "vi").symlink_to("vim.basic")
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "visual,editor,command",
    [
        ("", "", ["vi", *QUIET["vim"]]),
        ("", "ed -p :", ["ed", "-p", ":"]),
        ("nano", "ed", ["nano", *QUIET["nano"]]),
        ("emacs-nox -nw", "ed", ["emacs-nox", "-nw", *QUIET["emacs"]]),
    ],
)
def test_the_users_editor(
    installed: Path, monkeypatch: pytest.MonkeyPatch, visual: str, editor: str, command: list[str]
) -> None:
    """$VISUAL, else $EDITOR, else vi; one that is known, under whatever name, is kept from leaving copies."""
    monkeypatch.setenv("VISUAL", visual)
    monkeypatch.setenv("EDITOR", editor)
    assert find_editor() == command


@pytest.mark.parametrize(
    "visual,said",
    [
        ("none", "there is no editor 'none'; set VISUAL"),
        ("emacsclient -t", "opens the file in another program"),
        ("'ed", "a quote that is not closed"),
    ],
)
def test_what_cannot_be_used(
    installed: Path, monkeypatch: pytest.MonkeyPatch, visual: str, said: str
) -> None:
    """It is refused before anything is fetched, and what to set is said."""
    monkeypatch.setenv("VISUAL", visual)
    with pytest.raises(UsageError, match=said):
        find_editor()
