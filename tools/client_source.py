"""Writes what in the client follows from the registry: the methods of both clients, and the public names.

Usage: ``python tools/client_source.py [--check]``; with ``--check`` it writes nothing, and exits with 1 when
a file is not what it would write.

- Both clients are rendered from one list of methods (``tools/client_methods.py``), so that they differ in
  ``async`` and ``await`` alone.
- What is written needs no formatter and passes every check like what is written by hand.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protocol")]

from keyholt_protocol import errors, messages  # noqa: E402
from keyholt_protocol.errors import KeyholtError  # noqa: E402
from tools.client_methods import CLIENT, GROUPS, OWN, Method, methods  # noqa: E402
from tools.generated import keep  # noqa: E402

__all__ = ["files", "main"]

WIDTH: Final = 110
MARGIN: Final = 8
"""Columns before a method's docstring and body."""

TIMEOUT: Final = "timeout: float | None = None"
NOTICE: Final = "Made from the registry and ``keyholt.invocations`` by `make generate`: change those."

STANDARD: Final = {"Mapping": "collections.abc", "datetime": "datetime", "timedelta": "datetime"}
OURS: Final = {"Secret": "secret"}
"""What a parameter or a result may be annotated with, besides built-in types and messages, and its module."""


def main(arguments: list[str]) -> int:
    """Write the files, or check them; gives the exit status."""
    return keep(
        "client_source.py", arguments, lambda: {CLIENT / name: text for name, text in files().items()}
    )


def files() -> dict[str, str]:
    """What each generated file is to hold, by its name in ``client/keyholt``."""
    found = list(methods())
    return {
        "methods.py": _clients(found, asynchronous=False),
        "async_methods.py": _clients(found, asynchronous=True),
        "public.py": _public(found),
    }


def _clients(found: list[Method], *, asynchronous: bool) -> str:
    prefix, kind, await_ = ("Async", "async def", "await ") if asynchronous else ("", "def", "")
    groups = [domain for domain in GROUPS if any(method.domain == domain for method in found)]
    body = [_base(prefix, kind, groups)]
    body += [_render(method, kind, await_, "self") for method in found if method.domain in OWN]
    for domain in groups:
        body.append(_group(prefix, domain))
        members = [method for method in found if method.domain == domain]
        body += [_render(method, kind, await_, "self._client") for method in members]
    text = "".join(body)
    names = [f"{prefix}Methods", *(prefix + GROUPS[domain][1] for domain in groups)]
    head = HEAD.format(
        whose="the clients for tasks" if asynchronous else "the blocking client",
        notice=NOTICE,
        imports="\n".join(_imports(text, {method.maker for method in found})),
        names=", ".join(f'"{name}"' for name in names),
    )
    return head + text


def _imports(text: str, makers: set[str]) -> Iterator[str]:
    """What the text needs, in the order that the linter wants; ``makers`` are of ``keyholt.invocations``."""
    standard = {"abc": "ABC, abstractmethod", "typing": "TypeVar"}
    own = {"invocations": ", ".join(sorted({"Invocation", "Plan", "Value", *makers}))}
    for name, module in STANDARD.items():
        if re.search(rf"\b{name}\b", text):
            standard[module] = f"{standard[module]}, {name}" if module in standard else name
    own |= {"arguments": "request_of"} if "request_of(" in text else {}
    own |= {module: name for name, module in OURS.items() if re.search(rf"\b{name}\b", text)}
    yield from (f"from {module} import {names}" for module, names in sorted(standard.items()))
    yield ""
    for module, names in sorted(own.items()):
        line = f"from keyholt.{module} import {names}"
        parts = "".join(f"    {name},\n" for name in names.split(", "))
        yield line if len(line) <= WIDTH else f"from keyholt.{module} import (\n{parts})"


HEAD: Final = '''"""The methods of {whose}, one for each way to ask for an operation.

{notice}
"""

from __future__ import annotations

{imports}
from keyholt_protocol import messages as m
from keyholt_protocol import operations as ops

__all__ = [{names}]

T = TypeVar("T")


'''

BASE: Final = '''class {prefix}Methods(ABC):
    """What the agent can be asked for.

    Every method takes ``timeout``: the seconds within which the agent must have answered, for a result that
    comes in pages each of them; ``math.inf`` for as long as it takes; without it, what ``connect`` was given.
    When the time is over the connection stays usable: the late answer is received and wiped, and where one is
    needed, the next call opens a new one. A write that was under way may still be carried out, also after
    later calls. Any may raise these beside its own:

    - ``UninitialisedError``, ``LockedError``: the agent has no store, or is locked; ``init``, ``unlock``.
    - ``DeniedError``: the agent does not let this program do that.
    - ``DeadlineExceededError``: the time is over; says whether the request may have been carried out.
    - ``AgentUnreachableError``: the connection broke, and could not be opened again or the request is not
      safe to repeat; says whether it may have been carried out.
    - ``StoreUnavailableError``: the agent's store cannot be read or written; see ``keyholt doctor``.
    - ``ResourceExhaustedError``, ``BusyError``: the agent has no room for it now; try again.
    - ``InvalidRequestError``, ``TooLargeError``: what was given is not allowed; says what to write.
      What has a wrong type is a ``TypeError``.

    A name in double backticks that is no parameter, such as ``retry_after``, is one of the error's details.
    """

    @abstractmethod
    {kind} perform(self, invocation: Invocation[T], timeout: float | None = None) -> T:
        """Send one request and wait for its answer."""

    @abstractmethod
    {kind} follow(self, plan: Plan[T], timeout: float | None = None) -> T:
        """Make the invocations of a plan one after the other."""
'''

ATTRIBUTE: Final = '''
    @property
    def {attribute}(self) -> {cls}:
        """{about}"""
        return {cls}(self)
'''

GROUP: Final = '''

class {cls}:
    """{about} The client's attribute ``{attribute}``."""

    def __init__(self, client: {prefix}Methods) -> None:
        self._client = client
'''


def _base(prefix: str, kind: str, groups: list[str]) -> str:
    text = BASE.format(prefix=prefix, kind=kind)
    for domain in groups:
        attribute, cls, about = GROUPS[domain]
        text += ATTRIBUTE.format(attribute=attribute, cls=prefix + cls, about=about)
    return text


def _group(prefix: str, domain: str) -> str:
    attribute, cls, about = GROUPS[domain]
    return GROUP.format(prefix=prefix, attribute=attribute, cls=prefix + cls, about=about)


def _render(method: Method, kind: str, await_: str, performer: str) -> str:
    lines = [
        "",
        *_broken(f"    {kind} {method.name}", ["self", *method.parameters, TIMEOUT], _result(method)),
    ]
    lines += _docstring(method.docstring)
    if method.request:
        lines += _broken("        request = request_of", method.request)
    lines += _broken(f"        {'plan' if method.plan else 'invocation'} = {method.maker}", method.arguments)
    performed = "follow(plan, timeout)" if method.plan else "perform(invocation, timeout)"
    lines.append(f"        {'return ' if method.result else ''}{await_}{performer}.{performed}")
    return "\n".join(lines) + "\n"


def _result(method: Method) -> str:
    return f" -> {method.result or 'None'}:"


def _broken(before: str, parts: Iterable[str], after: str = "") -> list[str]:
    """Something in parentheses, on one line or, where that is too long, each part on a line of its own."""
    line = f"{before}({', '.join(parts)}){after}"
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(before) - len(before.lstrip()))
    return [f"{before}(", *(f"{indent}    {part}," for part in parts), f"{indent}){after}"]


def _docstring(text: str) -> Iterator[str]:
    indent = " " * MARGIN
    lines = [line for entry in _entries(text) for line in _filled(entry)]
    if len(lines) == 1 and len(lines[0]) + MARGIN + 6 <= WIDTH:
        yield f'{indent}"""{lines[0]}"""'
        return
    yield f'{indent}"""{lines[0]}'
    yield from (f"{indent}{line}".rstrip() for line in lines[1:])
    yield f'{indent}"""'


def _entries(text: str) -> Iterator[str]:
    """Each paragraph, and each entry of a section, as one line, however it was broken."""
    entry = ""
    for line in text.split("\n"):
        begins = not line or not entry or entry.endswith(":") or re.match(r"    \w+: ", line)
        if begins:
            if entry:
                yield entry
            if not line:
                yield ""
            entry = line
        else:
            entry += f" {line.lstrip()}"
    yield entry


def _filled(entry: str) -> list[str]:
    indent = " " * (len(entry) - len(entry.lstrip()))
    deeper = indent + "    " if indent else ""
    room = WIDTH - MARGIN - len('"""')
    return textwrap.wrap(entry, room, subsequent_indent=deeper, break_long_words=False) or [""]


# public names


PUBLIC: Final = '''"""The names of ``keyholt``, imported all at once when the first of them is asked for.

{notice}
"""

from __future__ import annotations

from keyholt.blocking import Client, connect, get
from keyholt.secret import Secret
from keyholt_protocol.errors import (
{errors}
)
from keyholt_protocol.messages import (
{messages}
)

__all__ = [
{names}
]
'''


def _public(found: list[Method]) -> str:
    raised = sorted({"ErrorCode", *(name for name in errors.__all__ if _is_raised(getattr(errors, name)))})
    given = sorted(cls.__name__ for cls in _results(found))
    names = sorted(["Client", "Secret", "connect", "get", *raised, *given])
    return PUBLIC.format(
        notice=NOTICE,
        errors="\n".join(f"    {name}," for name in raised),
        messages="\n".join(f"    {name}," for name in given),
        names="\n".join(f'    "{name}",' for name in names),
    )


def _is_raised(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, KeyholtError)


def _results(found: Iterable[Method]) -> set[type[Any]]:
    """The messages that callers get to see, and those within them."""
    seen: set[type[Any]] = set()
    waiting = [
        getattr(messages, name) for method in found for name in re.findall(r"\bm\.(\w+)", method.result)
    ]
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            for hint in typing.get_type_hints(cls).values():
                waiting += [part for part in typing.get_args(hint) if dataclasses.is_dataclass(part)]
    return seen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
