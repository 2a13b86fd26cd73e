"""What holds of every page that is written from the code: it is current, and drift is told in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["check_current", "check_drift_is_told"]


def check_current(tool: ModuleType) -> None:
    """The tool, run alone as ``make check`` runs it, finds the page in the tree as it would write it."""
    subprocess.run([sys.executable, str(tool.__file__), "--check"], check=True, timeout=60)


def check_drift_is_told(
    tool: ModuleType,
    text: str,
    changed: str,
    *,
    into: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A page that is ``changed`` or missing is told; the tool writes ``text``, which settles the matter.

    Args:
        tool: a module with a ``TARGET`` and a ``main`` that takes the arguments.
        into: an empty directory, in which the page is written.
    """
    target = into / "page.md"
    monkeypatch.setattr(tool, "TARGET", target)
    assert changed != text
    for drifted in (None, changed):
        if drifted is not None:
            target.write_text(drifted, "utf-8")
        assert tool.main(["--check"]) == 1
        assert "run `make generate`" in capsys.readouterr().err
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    assert target.read_text("utf-8") == text
    assert tool.main(["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err
