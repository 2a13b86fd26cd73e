"""The documents name files that are there, and quote messages that the agent has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

NAMED: Final = re.compile(r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|sh|toml|md))(?:::\w+)?`")
"""A file as the documents write it: its name, or the end of its path."""

PATTERN: Final = re.compile(r"\b[A-Z]{3,}\b(?!\.md)")
"""A word that stands for others, as in ``messages/DOMAIN.py``."""

ELSEWHERE: Final = {"agent.toml", "policy.toml"}
"""Files of a user, not of the project."""


def missing(text: str, files: set[str]) -> set[str]:
    """The files that a text names and that are none of ``files``."""
    named = {name for name in NAMED.findall(text) if not PATTERN.search(name)} - ELSEWHERE
    return {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)}


def project() -> set[str]:
    """Every file that a document may name."""
    folders = ("agent", "protocol", "client", "tests", "tools", "bench", "demo", "docs", ".ci")
    found = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*")}
    return found | {path.name for path in ROOT.iterdir()}


def test_documents_name_files_that_are_there() -> None:
    """Whoever follows a document finds what it speaks of."""
    files = project()
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    assert len(documents) > 20
    stale = {str(one.relative_to(ROOT)): missing(one.read_text("utf-8"), files) for one in documents}
    assert {name: found for name, found in stale.items() if found} == {}


def test_a_stale_name_is_found() -> None:
    """A file that was moved, by its name alone and by its path; what is there is not complained of."""
    files = {"agent/keyholt_agent/pipeline.py", "docs/adr/0001-a.md"}
    there = "`pipeline.py` `keyholt_agent/pipeline.py` `messages/DOMAIN.py` `0001-a.md`"
    assert missing(f"{there} `identity.py` `agent/pipeline.py`", files) == {
        "identity.py",
        "agent/pipeline.py",
    }


def numbered_wrongly(decisions: dict[str, str]) -> set[str]:
    """The decisions whose number is another's, too, or is not the one in their heading."""
    numbers = [name[:4] for name in decisions]
    return {
        name
        for name, text in decisions.items()
        if numbers.count(name[:4]) > 1 or not text.startswith(f"# {int(name[:4])}. ")
    }


def test_each_decision_has_a_number_of_its_own() -> None:
    """A reference by a number leads to one page; two of a number, or another in the heading, are found."""
    folder = ROOT / "docs/adr"
    decisions = {path.name: path.read_text("utf-8") for path in folder.glob("[0-9]*.md")}
    assert len(decisions) > 15
    assert numbered_wrongly(decisions) == set()
    assert numbered_wrongly({"0001-a.md": "# 1. A", "0001-b.md": "# 1. B"}) == {"0001-a.md", "0001-b.md"}
    assert numbered_wrongly({"0001-a.md": "# 2. A"}) == {"0001-a.md"}


PLACE: Final = re.compile(r"\b(?:F|N|DIR|PATH)\b|\.\.\.")
"""What stands in a quoted message for what is different each time."""


def messages(source: str) -> Iterator[str]:
    """Every text of a module, with a NUL where something is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def unknown(page: str, known: set[str]) -> set[str]:
    """The messages that a table quotes in its first column and that are none of ``known``."""
    cells = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    quoted = {text.strip("`").strip() for cell in cells for text in re.findall("``.+?``|`.+?`", cell)}
    patterns = {text: ".*".join(map(re.escape, PLACE.split(text))) for text in quoted}
    return {text for text, pattern in patterns.items() if not any(re.search(pattern, one) for one in known)}


def test_the_page_quotes_what_an_agent_says_that_does_not_start() -> None:
    """Whoever looks up the line of the log finds it; one that no agent says is found."""
    page = (ROOT / "docs/operations.md").read_text("utf-8").partition("## When it does not start")[2]
    table = page.partition("While it runs")[0]
    known = {text for path in (ROOT / "agent").rglob("*.py") for text in messages(path.read_text("utf-8"))}
    assert table.count("\n| `") > 20
    assert unknown(table, known) == set()
    assert unknown("| `F is gone for N days` | | |\n| `F is empty` | | |", known) == {"F is gone for N days"}
