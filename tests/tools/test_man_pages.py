"""The man pages: they are what the table of commands says, and all of it, in a form that man understands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from keyholt.cli.table import COMMANDS, GLOBAL
from tests.support.generated_page import check_current
from tools import man_pages

ROOT: Final = Path(__file__).resolve().parents[2]
MAN: Final = ROOT / "docs/man"
PAGES: Final = sorted(MAN.glob("man*/*"))


def plain(page: str) -> str:
    """A page's text as it was before it was made one of man's."""
    return re.sub(r"\\f[BIR]", "", page).replace(r"\-", "-").replace(r"\e", "\\").replace(r"\&", "")


def test_pages_are_what_the_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the tree would be written so now; one that is changed, missing or left over is found."""
    check_current(man_pages)
    monkeypatch.setattr(man_pages, "TARGET", tmp_path)
    assert man_pages.main(["--check"]) == 1
    assert man_pages.main([]) == man_pages.main(["--check"]) == 0
    page = tmp_path / "keyholt-get.1"
    page.write_text(page.read_text("utf-8") + "\n", "utf-8")
    (tmp_path / "keyholt-gone.1").write_text(page.read_text("utf-8"), "utf-8")
    assert man_pages.main(["--check"]) == 1
    assert man_pages.main([]) == man_pages.main(["--check"]) == 0
    assert not (tmp_path / "keyholt-gone.1").exists()
    assert man_pages.main(["--chekc"]) == 2


def test_everything_is_on_a_page() -> None:
    """A page for each command, with its sentences and all of its parameters; those of all on the first."""
    overview = plain((MAN / "man1/keyholt.1").read_text("utf-8"))
    for command in COMMANDS:
        name = "-".join(("keyholt", *command.words))
        page = plain((MAN / f"man1/{name}.1").read_text("utf-8"))
        assert f"{name}(1)" in overview
        assert " ".join(command.words) in page
        for parameter in command.parameters:
            assert set(parameter.names) <= set(re.split(r"[\s,\[\]]+", page))
            assert parameter.help.replace("`", "") in page
    for parameter in GLOBAL:
        assert set(parameter.names) <= set(re.split(r"[\s,]+", overview))


def test_the_agents_page_has_its_options() -> None:
    """Those that its help tells, and no others."""
    told = subprocess.run(
        [sys.executable, "-I", "-m", "keyholt_agent", "--help"], capture_output=True, check=True, text=True
    ).stdout
    page = plain((MAN / "man8/keyholt-agent.8").read_text("utf-8"))
    listed = page.partition(".SH OPTIONS")[2].partition(".SH ")[0]
    assert set(re.findall(r"--[\w-]+", listed)) == set(re.findall(r"--[\w-]+", told))


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_groff_has_nothing_to_say(page: Path) -> None:
    """All its warnings are on; the name of the page is in its heading."""
    command = ["groff", "-man", "-Tascii", "-P-cbou", "-ww", str(page)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split("(")[0] == page.stem.upper()


def test_a_word_that_looks_like_a_request_is_text() -> None:
    """A line that begins with a dot or an apostrophe would vanish, and a backslash be taken for a command."""
    escape = vars(man_pages)["_text"]
    assert escape(".SH x") == r"\&.SH x"
    assert escape("'til") == r"\&'til"
    assert escape(r"a\b -c `d`") == r"a\eb \-c \fBd\fR"


def test_the_wheel_brings_them() -> None:
    """Each page, where man looks beside the programs on the path."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    sections = sorted({page.parent.name for page in PAGES})
    wanted = {f"docs/man/{section}": f"share/man/{section}" for section in sections}
    assert build["targets"]["wheel"]["shared-data"] == wanted
    assert all(page.suffix == f".{page.parent.name.removeprefix('man')}" for page in PAGES)
