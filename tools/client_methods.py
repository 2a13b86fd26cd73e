"""Which methods the clients have, and with what parameters: read from the registry.

- An operation ``domain.verb`` is the method ``verb``, of the client itself or, by ``GROUPS``, of an attribute
  of it. Its parameters are the request's fields and the payload; its docstring is the registry's.
- Where ``keyholt.invocations`` has a function ``domain_verb``, parameters and docstring are that function's:
  of an operation that offers more to programs, or of a second way to ask for one.
- ``tools/client_source.py`` writes them down.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "protocol")]

from keyholt_protocol.errors import ERRORS  # noqa: E402
from keyholt_protocol.operations import ANY_OPERATION, OPERATIONS, Operation  # noqa: E402

__all__ = ["CLIENT", "GROUPS", "OWN", "Method", "methods"]

CLIENT: Final = ROOT / "client/keyholt"

OWN: Final = ("secret", "agent", "store")
"""Domains whose operations are methods of the client itself."""

GROUPS: Final = {"slot": ("slots", "Slots", "The keyslots: the ways to unlock the store.")}
"""Other domains: the client's attribute, its class, and what it is about."""

NOT_FOR_PROGRAMS: Final = ("session",)
"""Domains that the client itself uses."""

EVERYWHERE: Final = {"uninitialised", "locked", "store_unavailable"} | {
    code.wire_name for code in ANY_OPERATION
}
"""Codes that the clients' own docstring names once, for all methods."""

_BACKTICKS: Final = re.compile("`([^`]+)`")
QUOTED: Final = r"``\1``"
"""Names stand in single backticks in the registry, as in Markdown, and in double ones in docstrings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method, as text.

    Attributes:
        parameters: as in a ``def``, with annotations and defaults, a ``*`` among them.
        result: what it gives; empty for nothing.
        request: what the request is made of; empty where a function makes it.
        maker: what is called to make the invocation, or the plan of several.
        arguments: of that call.
    """

    domain: str
    name: str
    parameters: tuple[str, ...]
    docstring: str
    result: str
    request: tuple[str, ...] = ()
    maker: str
    arguments: tuple[str, ...]
    plan: bool = False


def methods() -> Iterator[Method]:
    """Every method: in the order of the registry, each before those that ask for the same operation."""
    written = _functions()
    for operation in OPERATIONS.values():
        domain, verb = operation.name.split(".")
        if domain in NOT_FOR_PROGRAMS:
            continue
        function = written.pop(f"{domain}_{verb}", None)
        yield _regular(operation) if function is None else _written(function, operation)
    for function in written.values():
        if function.name.partition("_")[0] in (*OWN, *GROUPS):
            yield _written(function, None)


def _functions() -> dict[str, ast.FunctionDef]:
    tree = ast.parse((CLIENT / "invocations.py").read_text("utf-8"))
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and "_" in node.name
    }


def _regular(operation: Operation[Any, Any]) -> Method:
    domain, verb = operation.name.split(".")
    positional: list[str] = []
    keywords: list[str] = []
    if operation.payload_name is not None:
        keywords.append(f"{operation.payload_name}: Value")
    fields = dataclasses.fields(operation.request)
    for field in fields:
        if field.default_factory is not dataclasses.MISSING:
            raise NotImplementedError(f"{operation.name} needs a function in keyholt.invocations")
        required = field.default is dataclasses.MISSING
        text = f"{field.name}: {field.type}" + ("" if required else f" = {_literal(field.default)}")
        first = not positional and required and field.type == "str"
        (positional if first else keywords).append(text)
    made = [f"m.{operation.request.__name__}", *(f"{field.name}={field.name}" for field in fields)]
    payload = [] if operation.payload_name is None else [operation.payload_name]
    return Method(
        domain=domain,
        name=verb,
        parameters=(*positional, "*", *keywords),
        docstring="\n\n".join([operation.summary, *_arguments(operation), *_raises(operation)]),
        result=f"m.{operation.result.__name__}" if dataclasses.fields(operation.result) else "",
        request=tuple(made),
        maker="invocation_of",
        arguments=(f"ops.{f'{domain}_{verb}'.upper()}", "request", *payload),
    )


def _written(function: ast.FunctionDef, operation: Operation[Any, Any] | None) -> Method:
    domain, _, name = function.name.partition("_")
    given = function.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    docstring = ast.get_docstring(function) or ""
    if operation is not None and "Raises:" not in docstring:
        docstring = "\n\n".join([docstring, *_raises(operation)])
    kind, _, result = ast.unparse(function.returns or ast.Constant(None)).partition("[")
    return Method(
        domain=domain,
        name=name,
        parameters=(
            *map(_parameter, given.args, defaults),
            "*",
            *map(_parameter, given.kwonlyargs, given.kw_defaults),
        ),
        docstring=docstring,
        result=result.removesuffix("]"),
        maker=function.name,
        arguments=(
            *(argument.arg for argument in given.args),
            *(f"{argument.arg}={argument.arg}" for argument in given.kwonlyargs),
        ),
        plan=kind == "Plan",
    )


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    annotation = ast.unparse(argument.annotation) if argument.annotation is not None else "object"
    if default is None:
        return f"{argument.arg}: {annotation}"
    return f"{argument.arg}: {annotation} = {_literal(ast.literal_eval(default))}"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _arguments(operation: Operation[Any, Any]) -> Iterator[str]:
    """The section about the parameters, from what the registry and the message's docstring say of them."""
    lines: list[str] = []
    if operation.payload_name is not None:
        lines.append(f"    {operation.payload_name}: {operation.payload}.")
    text = " ".join((operation.request.__doc__ or "").split())
    for name, meaning in re.findall(r"``(\w+)``: (.*?\.)(?= ``\w+``: | [A-Z]|$)", text):
        lines.append(f"    {name}: {meaning}")
    if lines:
        yield "\n".join(["Args:", *lines])


def _raises(operation: Operation[Any, Any]) -> Iterator[str]:
    """The section about the errors that are this operation's own."""
    lines = [
        f"    {ERRORS[code.wire_name].__name__}: {_BACKTICKS.sub(QUOTED, when)}."
        for code, when in operation.errors.items()
        if code.wire_name not in EVERYWHERE
    ]
    if lines:
        yield "\n".join(["Raises:", *lines])
