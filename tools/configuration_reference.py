"""Writes docs/configuration.md: the prose of docs/configuration.in.md with every setting put in.

Usage: ``python tools/configuration_reference.py [--check]``; with ``--check`` it writes nothing, and exits
with 1 when docs/configuration.md is not what it would write.

- Sections, types, defaults and meanings are read from the dataclasses of ``keyholt_agent.config``, bounds
  from the constants beside them.
- A setting without a meaning in its class's docstring is an error, and so is a placeholder that nothing
  fills.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protocol"), str(ROOT / "agent")]

from keyholt_agent import config  # noqa: E402
from keyholt_agent.memory import arena  # noqa: E402
from tools.generated import keep  # noqa: E402

__all__ = ["Section", "main", "reference", "sections"]

TEMPLATE: Final = ROOT / "docs/configuration.in.md"
TARGET: Final = ROOT / "docs/configuration.md"
_PLACEHOLDER: Final = re.compile(r"\{([A-Z_]+)\}")
_CONSTANT: Final = re.compile(r"``([A-Z][A-Z_]+)``")
_ATTRIBUTE: Final = re.compile(r"^ {8}(\w+): (.+(?:\n {9,}.+)*)", re.MULTILINE)
_ONE_LINE: Final = re.compile(r"^``(\w+)``: ([^`]+)$")
_MEBIBYTE: Final = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of the file: its name with dots, and the dataclass that it becomes."""

    name: str
    settings: type[Any]


def main(arguments: list[str]) -> int:
    """Write the page, or check it; gives the exit status."""
    return keep(
        "configuration_reference.py", arguments, lambda: {TARGET: reference(TEMPLATE.read_text("utf-8"))}
    )


def reference(template: str) -> str:
    """The whole page.

    Raises:
        KeyError: the template has a placeholder that nothing fills, or a setting has no meaning.
    """
    values = {"SETTINGS": "\n\n".join(map(_table, sections())), "FILE": _file()}
    return _PLACEHOLDER.sub(lambda match: values.get(match[1]) or _constant(match[1]), template)


def sections(settings: type[Any] = config.Settings, prefix: str = "") -> Iterator[Section]:
    """Every table of the file that holds settings, in the order of the code."""
    for name, hint in typing.get_type_hints(settings).items():
        if dataclasses.is_dataclass(hint):
            inner = typing.cast("type[Any]", hint)
            if any(not dataclasses.is_dataclass(part) for part in typing.get_type_hints(inner).values()):
                yield Section(name=prefix + name, settings=inner)
            yield from sections(inner, f"{prefix}{name}.")


def _table(section: Section) -> str:
    hints = typing.get_type_hints(section.settings)
    meanings = _meanings(section.settings)
    lines = [
        f"### `[{section.name}]`",
        "",
        "| setting | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in dataclasses.fields(section.settings):
        shown = "not set" if field.default is None else f"`{_toml(field.default)}`"
        lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {shown} | {meanings[field.name]} |")
    return "\n".join(lines)


def _file() -> str:
    """A file of every setting with its default, all of them commented out."""
    parts: list[str] = []
    for section in sections():
        lines = [f"[{section.name}]"]
        for field in dataclasses.fields(section.settings):
            unset = field.default is None
            lines.append(f"# {field.name} =" + ("  # not set" if unset else f" {_toml(field.default)}"))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _meanings(settings: type[Any]) -> dict[str, str]:
    """What a dataclass's docstring says of each of its fields, for readers of TOML."""
    text = settings.__doc__ or ""
    found = _ONE_LINE.findall(text.strip()) or _ATTRIBUTE.findall(text)
    module = vars(sys.modules[settings.__module__])
    return {name: _for_readers(" ".join(meaning.split()), module) for name, meaning in found}


def _for_readers(meaning: str, module: dict[str, Any]) -> str:
    # Python's None is a key that is left out in TOML; who does not see the code wants a constant's value.
    meaning = meaning.replace("None for", "when left out,").rstrip(".")
    named = _CONSTANT.sub(lambda match: _number(module[match[1]]), meaning)
    return named.replace("``", "`").replace("|", "\\|")


def _constant(name: str) -> str:
    return _number(vars(config)[name] if name in vars(config) else vars(arena)[name])


def _number(value: int) -> str:
    return f"{value} ({value // _MEBIBYTE} MiB)" if value and value % _MEBIBYTE == 0 else str(value)


def _type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if types.NoneType in arguments:
        return " or ".join(_type(part) for part in arguments if part is not types.NoneType)
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f"`{_toml(value)}`" for value in arguments)
    if typing.get_origin(hint) is tuple:
        return f"array of {_type(arguments[0])}s"
    return {str: "text", int: "integer", float: "number", bool: "boolean"}[hint]


def _toml(value: object) -> str:
    """A value as TOML writes it, which for these types is as JSON does."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
