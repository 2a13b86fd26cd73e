"""The pictures of the documents are true: all that they show is in the code or in the documents."""

from __future__ import annotations

import ast
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from keyholt_agent.keys import root
from keyholt_agent.keys.envelope import RecordType
from tools import pictures

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SOURCES: Final = sorted(pictures.PICTURES.glob("*.dot"))


def statements(name: str) -> list[tuple[str, dict[str, str]]]:
    """The nodes and edges of a picture as ``a`` and ``a -> b``, each with its attributes in quotes."""
    text = re.sub(
        r"^\s*//.*$", "", (pictures.PICTURES / f"{name}.dot").read_text("utf-8"), flags=re.MULTILINE
    )
    found = re.findall(r"(\w+(?: -> \w+)?)(?: \[([^<\]]*)\])?;", text)
    return [
        (what, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', attributes)))
        for what, attributes in found
        if what not in {"graph", "node", "edge"}
    ]


def imports(module: str) -> set[str]:
    """Every name that a module imports, for the type checker too, or that a package has for it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            package = Path(Path(module).parts[0], *node.module.split("."), "__init__.py")
            if module != str(package) and (ROOT / package).is_file():
                names |= imports(str(package))
    return names


def module_name(file: str) -> str:
    """The name by which a file is imported."""
    return ".".join(Path(file).with_suffix("").parts[1:])


def joined(one: str, other: str) -> bool:
    """Whether one of two files imports the other."""
    return module_name(other) in imports(one) or module_name(one) in imports(other)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_picture_is_of_its_source(source: Path) -> None:
    """Nobody has changed the one without the other; a document shows it."""
    assert pictures.is_of(source), "run `make generate`"
    assert any(
        f"pictures/{source.stem}.svg" in page.read_text("utf-8")
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    )


def test_a_picture_of_another_source_is_found(tmp_path: Path) -> None:
    """The control."""
    for suffix in (".dot", ".svg"):
        shutil.copy(SOURCES[0].with_suffix(suffix), tmp_path)
    copy = tmp_path / SOURCES[0].name
    assert pictures.is_of(copy)
    copy.write_text(copy.read_text("utf-8") + "\n", "utf-8")
    assert not pictures.is_of(copy)
    copy.with_suffix(".svg").unlink()
    assert not pictures.is_of(copy)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_a_source_can_be_drawn() -> None:
    """By whatever version of Graphviz is here; the picture says nothing of that version."""
    svg = pictures.drawn(SOURCES[0])
    assert svg.startswith("<!-- drawn from ")
    assert svg.count("<!--") == 1
    assert "</svg>" in svg


def test_the_way_of_a_request_goes_through_the_code() -> None:
    """Each station is a file, and its name is shown; between two of them lies an import, or what is said."""
    found = statements("request")
    files = {what: attributes["file"] for what, attributes in found if "file" in attributes}
    assert len(files) > 10
    for station, file in files.items():
        assert (ROOT / file).is_file(), file
        label = dict(found)[station]["label"]
        assert label.split("\\n")[-1] in {Path(file).name, "/".join(Path(file).parts[2:])}
    edges = [(what.split(" -> "), attributes) for what, attributes in found if " -> " in what]
    assert len(edges) > 10
    for (one, other), attributes in edges:
        via = attributes.get("via")
        if via is None:
            assert joined(files[one], files[other]), (one, other)
        elif via.endswith(".py"):
            assert joined(files[one], via), (one, via)
            assert joined(via, files[other]), (via, other)
        else:
            assert one not in files or other not in files, (one, other)


def test_files_that_do_not_know_each_other_are_not_joined() -> None:
    """The control."""
    client, store = "client/keyholt/blocking.py", "agent/keyholt_agent/store/store.py"
    assert joined(client, "client/keyholt/channel.py")
    assert not joined(client, store)


def test_all_keys_are_shown() -> None:
    """Every kind of sealed record, and every key that is derived from the root key."""
    attributes = [attributes for _, attributes in statements("keys")]
    assert {one["record"] for one in attributes if "record" in one} == set(RecordType.__members__)
    derived = {name for name in vars(root) if re.fullmatch(r"_\w+_LABEL", name)}
    assert {one["derived"] for one in attributes if "derived" in one} == derived


class _Rows(HTMLParser):
    """The cells of a table, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def test_every_attacker_is_shown() -> None:
    """In the order of the threat model, with an answer in every column."""
    parser = _Rows()
    parser.feed((pictures.PICTURES / "attackers.dot").read_text("utf-8").partition("label=<")[2])
    head, *rows = parser.rows
    model = (ROOT / "docs/threat-model.md").read_text("utf-8")
    attackers = re.findall(r"^### ([^:\n]+)", model.partition("## Attacker by attacker")[2], re.MULTILINE)
    assert [row[0] for row in rows] == attackers
    for row in rows:
        assert len(row) == len(head)
        assert all(row)
