r"""Names and values as files that other programs read: ``env``, ``shell``, ``json``, ``yaml``.

====== ==================================================================== ==================================
format written                                                              refused
====== ==================================================================== ==================================
env    ``NAME=value``, as ``keyholt.cli.envfile`` reads it                  NUL, what is not UTF-8
shell  ``export NAME='value'``, a quote as ``'\''`` (POSIX XCU 2.2.2)       NUL
json   one object                                                           what is not UTF-8
yaml   one mapping of double-quoted texts (YAML 1.2.2, 7.3.1), all on one   what is not UTF-8
       line each
====== ==================================================================== ==================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from keyholt.cli.envfile import write_variable

__all__ = ["FORMATS", "FormatError", "write"]

Values = Mapping[str, bytearray]


class FormatError(ValueError):
    """A name or a value cannot be written in a format; the message names it, never the value."""


def write(kind: str, values: Values) -> bytes:
    """All of them in one of ``FORMATS``.

    Raises:
        FormatError: one cannot be written like that.
    """
    if kind in {"env", "shell"}:
        for name, value in values.items():
            if not (name.isascii() and name.isidentifier()):
                raise FormatError(f"{name!r} is no name for a variable; give --format json or yaml")
            if 0 in value:
                raise FormatError(
                    f"{name} holds a NUL byte, which no variable can; give --format json or yaml"
                )
    return FORMATS[kind](values)


def _env(values: Values) -> bytes:
    return "".join(write_variable(name, _text(name, value)) for name, value in values.items()).encode()


def _shell(values: Values) -> bytes:
    return b"".join(
        b"export %s='%s'\n" % (name.encode(), value.replace(b"'", b"'\\''")) for name, value in values.items()
    )


def _json(values: Values) -> bytes:
    texts = {name: _text(name, value) for name, value in values.items()}
    return f"{json.dumps(texts, indent=2)}\n".encode()


def _yaml(values: Values) -> bytes:
    lines = (f"{_quoted(name)}: {_quoted(_text(name, value))}\n" for name, value in values.items())
    return "".join(lines).encode() or b"{}\n"


def _quoted(text: str) -> str:
    """In double quotes: not by JSON's rules, which make two escapes of some characters."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _text(name: str, value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        pass  # it holds the value: raised in here, the next error would keep it as its context
    raise FormatError(f"{name} is not UTF-8 text; give --format shell, or get it alone with `keyholt get`")


FORMATS: Final[Mapping[str, Callable[[Values], bytes]]] = {
    "env": _env,
    "json": _json,
    "yaml": _yaml,
    "shell": _shell,
}
