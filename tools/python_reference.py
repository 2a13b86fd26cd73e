"""Writes docs/python.md: the library's public names, from their signatures and docstrings.

Usage: ``python tools/python_reference.py [--check]``; with ``--check`` it writes nothing, and exits with 1
when docs/python.md is not what it would write.

What is public is said by ``keyholt.__all__``. A public name without a docstring is an error.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "protocol")]

import keyholt  # noqa: E402
from keyholt.methods import Slots  # noqa: E402
from keyholt_protocol.errors import ErrorCode, KeyholtError  # noqa: E402
from tools.generated import keep  # noqa: E402

__all__ = ["main", "reference"]

TARGET: Final = ROOT / "docs/python.md"

HEAD: Final = """\
# Python reference

<!-- docs/python.md is made from the docstrings of the library by `make generate`. -->

Everything here is a name of `keyholt`, and typed. `pip install .` brings it, with msgpack alone.
[cookbook.md](cookbook.md) shows it at work.

```python
import keyholt

with keyholt.connect() as agent:
    agent.put("prod/db/password", b"s3cret")
    print(agent.get("prod/db/password").text)
```
"""

ASYNC: Final = """\
## trio and asyncio

`keyholt.trio` and `keyholt.asyncio` have the same `connect` and `get`, to be awaited, and a `Client` with the
same methods:

```python
async with keyholt.trio.connect() as agent:
    secret = await agent.get("prod/db/password")
```
"""

BESIDE: Final = frozenset({"__version__", "asyncio", "trio"})
"""Public names of which the page speaks by itself."""

PLUMBING: Final = frozenset({"follow", "perform"})
"""Methods that the others are made of."""

_SECTION: Final = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
_ENTRY: Final = re.compile(r"^(\S[^:\n]*): (.+(?:\n[ ]+.+)*)", re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Write the page, or check it; gives the exit status."""
    return keep("python_reference.py", arguments, lambda: {TARGET: reference()})


def reference() -> str:
    """The whole page."""
    public = [getattr(keyholt, name) for name in keyholt.__all__ if name not in BESIDE]
    functions = [one for one in public if inspect.isfunction(one)]
    results = [one for one in public if inspect.isclass(one) and dataclasses.is_dataclass(one)]
    errors = [one for one in public if inspect.isclass(one) and issubclass(one, KeyholtError)]
    shown = {*functions, *results, *errors, keyholt.Client, keyholt.Secret, ErrorCode}
    if rest := [one for one in public if one not in shown]:
        raise AssertionError(f"the page has no place for {rest}")
    parts = [
        HEAD,
        *(_function(f"keyholt.{one.__name__}", one, "##") for one in functions),
        _class("Client", keyholt.Client),
        _class("Client.slots", Slots),
        ASYNC,
        _class("Secret", keyholt.Secret),
        "## Results\n",
        *map(_result, results),
        "## Errors\n",
        f"`KeyholtError`: {_prose(_doc(KeyholtError))}",
        f"`ErrorCode`: {_prose(_doc(ErrorCode))}",
        _codes(errors),
    ]
    return "\n".join(parts)


def _class(name: str, kind: type[Any]) -> str:
    members: dict[str, object] = {}
    for ancestor in reversed(kind.__mro__[:-1]):
        members |= {key: value for key, value in vars(ancestor).items() if not key.startswith("_")}
    prefix = name.rpartition(".")[0] and "slots."
    owner = name.partition(".")[0].lower() if name == "Secret" else "agent"
    parts = [f"## `{name}`\n", _prose(_doc(kind))]
    for key, member in members.items():
        if inspect.isfunction(member) and key not in PLUMBING:
            parts.append(_function(f"{owner}.{prefix}{key}", member, "###"))
        elif isinstance(member, property) and member.__doc__:
            parts.append(f"### `{owner}.{prefix}{key}`\n\n{_prose(_doc(member))}")
    return "\n".join(parts)


def _result(kind: type[Any]) -> str:
    """A result: what is said of it, if anything, and its fields."""
    said = _doc(kind)
    prose = "" if said.startswith(f"{kind.__name__}(") else _prose(said) + "\n"  # dataclass made that up
    fields = [f"- `{field.name}`: `{field.type}`" for field in dataclasses.fields(kind)]
    return "\n".join([f"### `{kind.__name__}`\n", prose + fields[0], *fields[1:], ""])


def _function(name: str, function: Callable[..., object], heading: str) -> str:
    signature = inspect.signature(function)
    shown = ", ".join(_parameters(signature))
    returns = str(signature.return_annotation).removeprefix("m.").replace("[m.", "[")
    arrow = "" if returns == "None" else f" -> {returns}"
    return f"{heading} `{name}`\n\n```python\n{name}({shown}){arrow}\n```\n\n{_prose(_doc(function))}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """The parameters as they are written; ``inspect`` would put the annotations in quotes."""
    given = [one for one in signature.parameters.values() if one.name != "self"]
    starred = False
    for one in given:
        if one.kind is one.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        default = "" if one.default is one.empty else f" = {one.default!r}"
        yield f"{one.name}: {one.annotation}{default}"


def _codes(errors: list[type[KeyholtError]]) -> str:
    lines = ["| exception | code | may a retry help? | meaning |", "|---|---|---|---|"]
    for one in errors:
        if one is KeyholtError:
            continue
        retry = "yes" if one.retryable else "no"
        lines.append(f"| `{one.__name__}` | `{one.code.name.lower()}` | {retry} | {one.meaning} |")
    return "\n".join([*lines, ""])


def _doc(one: object) -> str:
    text = inspect.getdoc(one)
    if not text:
        raise AssertionError(f"{one!r} is public and has no docstring")
    return text


def _prose(text: str) -> str:
    """A docstring as Markdown: its sections as lists."""
    before, *sections = _SECTION.split(text)
    parts = [_code(before.strip())]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        listed, after = _listed(inspect.cleandoc(body))
        parts += [f"**{title}**", listed, *([after] if after else [])]
    return "\n\n".join(parts) + "\n"


def _listed(body: str) -> tuple[str, str]:
    """The entries of a section as a list, and what follows them."""
    inner, _, after = body.partition("\n\n")
    entries = _ENTRY.findall(inner)
    if not entries:
        return _code(inner), _code(after)
    lines = [f"- `{name}`: {' '.join(_code(meaning).split())}" for name, meaning in entries]
    return "\n".join(lines), _code(after)


def _code(text: str) -> str:
    return text.replace("::\n\n    ", ":\n\n    ").replace("``", "`")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
