"""The README's tour, typed into a terminal: each line prints what the page says that it does."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.client.terminal import Terminal

ROOT: Final = Path(__file__).parents[2]
PASSPHRASE: Final = "open the tour 7"
PROMPT: Final = "@@"

VARYING: Final = (
    (r"/\S*/tmp\.\w+", "DIRECTORY"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME"),
    (r"^\[1\] \d+$", "[1] PID"),
    (r"\b(pid|process) \d+", r"\1 PID"),
    (r"\bm=\d+MiB", "m=SIZE"),
    (r"[\d.]+ MiB", "SIZE"),
    (r"\bby \w+", "by USER"),
    (r"\buid \d+", "uid UID"),
    (r"\b(memfd_secret|mlock), SIZE", "BACKEND, SIZE"),
    (r"^\w+ +(memlock limit|memfd_secret): .*$", r"\1"),
)
"""What another machine, user or run prints otherwise."""


SOMETIMES: Final = ("[1]+", "(wd now: ", "\rchecking the store [")
"""How lines begin that are shown or not: a job that has ended, before some later prompt, where the shell is
then, and how far an unlock is that takes a while."""


class Step(NamedTuple):
    """What is typed, line by line, and what is shown then."""

    typed: list[str]
    shown: list[str]


def tour(page: str) -> Iterator[Step]:
    """The steps of all console blocks between the tour's heading and the next."""
    section = page.partition("## A two-minute tour\n")[2].partition("\n## ")[0]
    step: Step | None = None
    for block in re.findall(r"^```console\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step([line[2:]], [])
            elif step is not None and line.startswith("> "):
                step.typed.append(line[2:])
            elif step is not None:
                step.shown.append(line)
    if step is not None:
        yield step


def comparable(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run."""
    made: list[str] = []
    for line in lines:
        text = line.rstrip().rpartition("\r")[2]
        for pattern, replacement in VARYING:
            text = re.sub(pattern, replacement, text)
        made.append(text)
    return made


class Visitor:
    """Somebody at a shell who types what the page says, and a passphrase where one is asked for."""

    def __init__(self, screen: Terminal) -> None:
        self._screen = screen
        self._seen = screen.wait_for(PROMPT)

    def do(self, step: Step) -> list[str]:
        """Type a step; gives the lines that are shown until the shell is ready for the next."""
        screen, start = self._screen, self._seen
        screen.type("".join(f"{line}\n" for line in step.typed))
        for asked in [line for line in step.shown if line.rstrip().endswith(":") and "assphrase" in line]:
            self._seen = screen.wait_for(f"{asked.rstrip()} ", after=self._seen)
            screen.type(f"{PASSPHRASE}\n")
        self._seen = screen.wait_for(PROMPT, after=self._seen)
        text = screen.shown[start : self._seen - len(PROMPT)].decode()
        return text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a name short enough for a socket in it, and the programs where the page has them.

    A guess costs as little as the agent allows: what it costs is compared nowhere.
    """
    home = Path(tempfile.mkdtemp(prefix="kht"))
    (home / "checkout").mkdir()
    (home / "checkout/.venv").symlink_to(sys.prefix)
    (home / ".config/keyholt").mkdir(parents=True)
    (home / ".config/keyholt/agent.toml").write_text("[unlock]\nkdf_target = 0\n", "utf-8")
    yield home
    shutil.rmtree(home)


def visitor(home: Path) -> Terminal:
    """A shell that says nothing by itself, in the checkout."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "HISTFILE": os.devnull,
        "LANG": "C.UTF-8",
        "PS1": PROMPT,
        "PS2": "",
    }
    quiet = f"stty -echo; PS1={PROMPT} PS2= exec bash --norc --noprofile --noediting -i"
    return Terminal(["/bin/sh", "-c", quiet], environment, cwd=home / "checkout")


def test_the_tour_prints_what_it_says(home: Path) -> None:
    """Line by line, up to what differs from run to run; at its end nothing is left."""
    steps = list(tour((ROOT / "README.md").read_text("utf-8")))
    assert len(steps) > 20
    with visitor(home) as screen:
        shell = Visitor(screen)
        try:
            for step in steps:
                shown = shell.do(step)
                told = [line for line in shown if not line.startswith(SOMETIMES)]
                assert comparable(told) == comparable(step.shown), step.typed
            screen.type("exit\n")
            screen.end()
        finally:
            screen.type("\x03\nkill %1\nexit\n")
    assert {path.name for path in home.iterdir()} == {"checkout", ".config"}


def test_a_line_that_prints_something_else_is_found(home: Path) -> None:
    """The control: what is compared is what was printed, and what differs in a word is different."""
    with visitor(home) as screen:
        shown = Visitor(screen).do(Step(["echo one; echo two"], []))
    assert comparable(shown) == ["one", "two"]
    assert comparable(["prod/db/password: version 1"]) != comparable(["prod/db/password: version 2"])
    assert comparable(["pid 12 answers", "m=247MiB"]) == comparable(["pid 7 answers", "m=64MiB"])
