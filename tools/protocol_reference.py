"""Writes docs/protocol.md: the prose of docs/protocol.in.md with everything that the code knows put in.

Usage: ``python tools/protocol_reference.py [--check]``; with ``--check`` it writes nothing, and exits with 1
when docs/protocol.md is not what it would write.

- Operations, fields, defaults, limits and errors are read from ``keyholt_protocol``; examples are encoded by
  its codec.
- A placeholder that nothing fills is an error, and so is an operation without an example.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protocol")]

from keyholt_protocol import limits  # noqa: E402
from keyholt_protocol.errors import DETAILS, ERRORS  # noqa: E402
from keyholt_protocol.operations import ANY_OPERATION, OPERATIONS, Operation  # noqa: E402
from keyholt_protocol.rules import RULES  # noqa: E402
from tools.generated import keep  # noqa: E402
from tools.protocol_examples import EXAMPLES, annotated  # noqa: E402

__all__ = ["main", "reference"]

TEMPLATE: Final = ROOT / "docs/protocol.in.md"
TARGET: Final = ROOT / "docs/protocol.md"
_PLACEHOLDER: Final = re.compile(r"\{([A-Z_]+)\}")


def main(arguments: list[str]) -> int:
    """Write the reference, or check it; gives the exit status."""
    return keep("protocol_reference.py", arguments, lambda: {TARGET: reference(TEMPLATE.read_text("utf-8"))})


def reference(template: str) -> str:
    """The whole document.

    Raises:
        KeyError: the template has a placeholder that nothing fills.
    """
    values = {name: str(value) for name, value, _ in _limits()}
    values["ANY_ERRORS"] = _codes(ANY_OPERATION)
    values["OPERATIONS"] = "\n\n".join(map(_operation, OPERATIONS.values()))
    values["ERRORS"] = _errors()
    values["DETAILS"] = _table(
        ("detail", "type", "what"),
        ((f"`{name}`", _type(detail.type), detail.meaning) for name, detail in DETAILS.items()),
    )
    values["RULES"] = _table(
        ("what a client sends", "code", "ends the connection"),
        ((rule.broken, f"`{rule.code.wire_name}`", "yes" if rule.ends else "no") for rule in RULES),
    )
    values["LIMITS"] = _table(
        ("limit", "value", "what"), ((f"`{name}`", str(value), text) for name, value, text in _limits())
    )
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


# operations


def _operation(operation: Operation[Any, Any]) -> str:
    parts = [f"### `{operation.name}`", operation.summary, "\n".join(_facts(operation))]
    parts += _message("Request", operation.request)
    parts += _message("Result", operation.result)
    parts.append(_example(operation))
    return "\n\n".join(parts)


def _facts(operation: Operation[Any, Any]) -> Iterator[str]:
    yield f"- Needs {operation.needs.value}, and the permission `{operation.permission.value}`."
    changes = "Changes" if operation.mutates else "Does not change"
    repeatable = "Repeatable." if operation.repeatable else "Not repeatable."
    yield f"- {changes} the store or the agent's state. {repeatable}"
    if operation.payload is None:
        yield "- The request has no payload."
    else:
        yield f"- The request's payload: {operation.payload}; at most {operation.max_payload} bytes."
    yield f"- The result's payload: {operation.result_payload or 'none'}."
    if operation.errors:
        yield "- Errors:"
        for code in sorted(operation.errors):
            yield f"  - `{code.wire_name}`: {operation.errors[code]}."


def _message(title: str, cls: type[Any]) -> Iterator[str]:
    fields = dataclasses.fields(cls)
    if not fields:
        yield f"{title}: no fields."
        return
    hints = typing.get_type_hints(cls)
    yield f"{title}:"
    yield _table(
        ("field", "type", "default"),
        ((f"`{field.name}`", _type(hints[field.name]), _default(field)) for field in fields),
    )
    if text := _docstring(cls):
        yield text
    for part in _parts(hints.values()):
        yield from _message(f"Each of `{part.__name__}`", part)


def _parts(hints: Iterable[Any]) -> Iterator[type[Any]]:
    for hint in hints:
        for inner in typing.get_args(hint):
            if dataclasses.is_dataclass(inner):
                yield typing.cast("type[Any]", inner)


def _type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if types.NoneType in arguments:
        return _type(arguments[0])
    if typing.get_origin(hint) is tuple:
        return f"array of {_type(arguments[0])}"
    if typing.get_origin(hint) is Mapping:
        return "map of text to text"
    if dataclasses.is_dataclass(hint):
        return f"`{typing.cast('type[Any]', hint).__name__}` (map)"
    return {str: "text", int: "integer", bool: "boolean"}[hint]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()}`"
    if field.default is dataclasses.MISSING:
        return "required"
    shown = str(field.default)
    return {"None": "none", "True": "true", "False": "false", "": "empty"}.get(shown, f"`{shown}`")


def _docstring(cls: type[Any]) -> str:
    text = cls.__doc__ or ""
    if not text or text.startswith(f"{cls.__name__}("):  # what dataclass writes where there is none
        return ""
    return "\n".join(line.strip() for line in text.strip().splitlines()).replace("``", "`")


def _example(operation: Operation[Any, Any]) -> str:
    shown = EXAMPLES[operation.name]
    return f"```\n{annotated(operation, shown)}\n```"


# limits and errors


def _limits() -> Iterator[tuple[str, int, str]]:
    """Name, value and explanation of each limit, as its module gives them."""
    body = ast.parse(Path(limits.__file__).read_text("utf-8")).body
    for statement, text in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = getattr(limits, statement.target.id)
            if isinstance(value, int) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                words = " ".join(str(text.value.value).split()).replace("``", "`")
                yield statement.target.id, value, words


def _errors() -> str:
    rows = (
        (str(int(cls.code)), f"`{name}`", cls.meaning, "yes" if cls.retryable else "no", f"`{cls.__name__}`")
        for name, cls in ERRORS.items()
    )
    return _table(("number", "code", "meaning", "retryable", "exception in the Python library"), rows)


def _codes(codes: Iterable[Any]) -> str:
    return ", ".join(f"`{code.wire_name}`" for code in sorted(codes))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
