"""docs/configuration.md: it is what the code says, names every setting, and its file can be copied."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyholt_agent import config
from keyholt_agent.config import Settings, UnlockSettings, load_settings
from tests.support.generated_page import check_current, check_drift_is_told
from tools import configuration_reference
from tools.configuration_reference import reference, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/configuration.md").read_text("utf-8")
FILE = TEXT.split("```toml\n")[1].split("```")[0]


def test_reference_is_what_the_code_says() -> None:
    """The page in the tree is the one that would be written now; the tool, run alone, says so too."""
    assert reference(configuration_reference.TEMPLATE.read_text("utf-8")) == TEXT
    check_current(configuration_reference)


def test_drift_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that differs, or is missing, is told in a sentence; writing it settles the matter."""
    check_drift_is_told(
        configuration_reference,
        TEXT,
        TEXT.replace("idle_timeout", "idle_time", 1),
        into=tmp_path,
        monkeypatch=monkeypatch,
        capsys=capsys,
    )


def test_change_of_the_code_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default, a meaning or a bound that changes makes the page out of date."""
    template = configuration_reference.TEMPLATE.read_text("utf-8")
    for name, value in (("MAX_KDF_TARGET", 61), ("MIN_CONNECTIONS", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(config, name, value)
            assert reference(template) != TEXT
    with monkeypatch.context() as patch:
        patch.setattr(UnlockSettings, "__doc__", str(UnlockSettings.__doc__).replace("measured", "guessed"))
        assert reference(template) != TEXT
    assert reference(template) == TEXT


def test_setting_without_a_meaning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that its class's docstring leaves out stops the page from being written."""
    without = re.sub(r" +idle_timeout: .*\n", "", str(UnlockSettings.__doc__))
    monkeypatch.setattr(UnlockSettings, "__doc__", without)
    with pytest.raises(KeyError, match="idle_timeout"):
        reference("{SETTINGS}")


def test_unknown_placeholder_is_an_error() -> None:
    """The prose cannot name a bound that there is not."""
    with pytest.raises(KeyError):
        reference("at most {MAX_CHEESE} seconds")


def test_every_setting_is_in_the_page() -> None:
    """Each section has its table, each setting its row and its line in the file."""
    names = list(_names(Settings(), ""))
    assert "listen.unix.max_connections" in names
    for name in names:
        section, _, setting = name.rpartition(".")
        table = TEXT.split(f"### `[{section}]`\n")[1].split("\n\n- ")[0].split("\n### ")[0]
        assert f"\n| `{setting}` | " in table
        assert f"\n# {setting} =" in FILE.split(f"[{section}]")[1].split("\n[")[0]
    assert len({section.name for section in sections()}) == TEXT.count("\n### ")


def test_file_can_be_copied(tmp_path: Path) -> None:
    """As it stands it changes nothing; with every default written out it does not either."""
    path = tmp_path / "agent.toml"
    path.write_text(FILE, "utf-8")
    assert load_settings(path, {}) == Settings()
    written = re.sub(r"^# .*# not set$", "", FILE, flags=re.MULTILINE)
    path.write_text(re.sub(r"^# ", "", written, flags=re.MULTILINE), "utf-8")
    assert "idle_timeout = 28800" in path.read_text("utf-8").splitlines()
    assert load_settings(path, {}) == Settings()


def _names(settings: object, prefix: str) -> Iterator[str]:
    assert dataclasses.is_dataclass(settings)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _names(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
