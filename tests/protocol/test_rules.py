"""The table of the document says what a real agent does: every row of it is provoked, and nothing beside it.

The rows are read from ``docs/protocol.md``; what provokes them is in ``foreign_client.py``, which shares no
code with the project.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.faults import Fault, injected, traceable

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = Path(__file__).with_name("foreign_client.py")
TEXT = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")
SLOW = 500_000
"""Microseconds of a commit while many requests are to be in flight: a hundred times what those take."""

HEAD = "| what a client sends | code | ends the connection |\n| --- | --- | --- |\n"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[list[Any]]]]:
    """What a real agent made of every provocation."""
    home = tmp_path_factory.mktemp("rules")
    slow = Fault("fdatasync", 1, f"delay_enter={SLOW}")
    with AgentProcess(home, wrapper=traceable()) as agent:
        agent.start_new()
        found = provoke(agent, "rules")
        with injected(agent.pid, slow, home / "trace"):
            found |= provoke(agent, "crowd")
            with agent.connect() as client:
                client.put("rules/after", b"")  # which waits for the slow commit
        assert slow.injected
        yield found
        with agent.connect() as client:
            assert client.status()["state"] == "unlocked"


def provoke(agent: AgentProcess, which: str) -> dict[str, list[list[Any]]]:
    """What the agent makes of the rules or of a crowd of requests."""
    run = subprocess.run(
        [sys.executable, "-I", CLIENT, agent.socket_path, which],
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, list[list[Any]]] = json.loads(run.stdout)
    return found


def faults(text: str, seen: dict[str, list[list[Any]]]) -> list[str]:
    """Where the table of a document and what was seen of the agent are not the same."""
    table = text.partition(HEAD)[2].partition("\n\n")[0]
    rows = {
        rule: (code, ends == "yes")
        for rule, code, ends in re.findall(r"^\| (.+) \| `(\w+)` \| (yes|no) \|$", table, re.MULTILINE)
    }
    assert len(rows) == len(table.splitlines())
    found = [f"never provoked: {rule}" for rule in rows.keys() - seen.keys()]
    found += [f"no rule of the table: {rule}" for rule in seen.keys() - rows.keys()]
    for rule in rows.keys() & seen.keys():
        code, ends = rows[rule]
        found += [
            f"{rule}, the {number}. way: {way}"
            for number, way in enumerate(seen[rule], 1)
            if way != [0 if ends else 7, code, ends]
        ]
        if not seen[rule]:
            found.append(f"no way to break: {rule}")
    return found


def test_table_says_what_the_agent_does(seen: dict[str, list[list[Any]]]) -> None:
    """Each rule has its code; it ends the connection under id 0, or the request alone under its own."""
    assert faults(TEXT, seen) == []


ROWS = {
    "another code": ("| H is 0 | `invalid_request` | yes |", "| H is 0 | `too_large` | yes |"),
    "ends": ("such operation | `unsupported` | no |", "such operation | `unsupported` | yes |"),
    "does not end": ("| H is 0 | `invalid_request` | yes |", "| H is 0 | `invalid_request` | no |"),
    "a row less": ("| a key is not text | `invalid_request` | no |\n", ""),
    "a row more": ("| H is 0 |", "| the moon is full | `busy` | no |\n| H is 0 |"),
    "another limit": ("| `limit` is more than 200 |", "| `limit` is more than 100 |"),
}  # fmt: skip


@pytest.mark.parametrize("change", ROWS)
def test_changed_table_is_found(seen: dict[str, list[list[Any]]], change: str) -> None:
    """A document that says something else of one row is caught."""
    was, now = ROWS[change]
    assert TEXT.count(was) == 1
    assert faults(TEXT.replace(was, now), seen)


def test_agent_that_does_something_else_is_found(seen: dict[str, list[list[Any]]]) -> None:
    """One way of many in which an agent is milder than it says is enough."""
    *ways, last = seen["H is more than 8192"]
    assert faults(TEXT, {**seen, "H is more than 8192": [*ways, [7, last[1], False]]})
