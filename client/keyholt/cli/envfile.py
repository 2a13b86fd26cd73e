r"""The ``.env`` format: names and values, one after the other.

====================== ====================================================================================
line                   meaning
====================== ====================================================================================
empty, ``# ...``       nothing
``NAME=value``         to the end of the line or to `` #``; blanks around it do not count; no escapes
``NAME='value'``       up to the next quote, over several lines if need be; ``\'`` and ``\\`` are escapes
``NAME="value"``       likewise; ``\n \r \t \" \\ \$`` are escapes, any other backslash stands for itself
``export NAME=...``    the same as without ``export``
====================== ====================================================================================

- Names are letters, digits and ``_``, not beginning with a digit. A name given twice has its last value.
- ``$NAME`` is not replaced by anything. Line ends may be CRLF; a CR alone is none. Text is UTF-8, a byte
  order mark is skipped.
- An error names the line and never repeats what is on it.
- `keyholt run` goes through here: nothing is imported, ``re`` least of all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["EnvFileError", "parse", "variables", "write_variable"]

_BLANKS: Final = " \t"
_ESCAPES: Final = {
    "'": {"'": "'", "\\": "\\"},
    '"': {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"},
}
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,=?~")
"""Characters of a value that needs no quotes, wherever it is read."""


class EnvFileError(ValueError):
    """The text is not in the format.

    Attributes:
        line: where, counted from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


def parse(data: bytes) -> dict[str, str]:
    """The variables that a file's bytes define, in the order of their first mention.

    Raises:
        EnvFileError: names the line that is wrong, and how.
    """
    return {name: value for name, value, _ in variables(data)}


def variables(data: bytes) -> Iterator[tuple[str, str, int]]:
    """Each name, its value, and the line that it stands on, counted from 1; a name may come again.

    Raises:
        EnvFileError: names the line that is wrong, and how.
    """
    text = _decode(data).removeprefix("\ufeff").replace("\r\n", "\n")
    at, line = 0, 1
    while at < len(text):
        end = _line_end(text, at)
        content = text[at:end].strip(_BLANKS)
        following = end + 1
        if content and not content.startswith("#"):
            name, begin = _name(text, at, end)
            value, following = _value(text, begin)
            yield name, value, line
        line += text.count("\n", at, following)
        at = following


def write_variable(name: str, value: str) -> str:
    """The line, with its end, that ``parse`` reads as this variable."""
    if value and _PLAIN.issuperset(value):
        return f"{name}={value}\n"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\r", "\\r")
    return f'{name}="{quoted}"\n'


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    raise EnvFileError(line, "it is not UTF-8 text; save the file as UTF-8")


def _name(text: str, at: int, end: int) -> tuple[str, int]:
    """The name on the line from ``at`` to ``end``, and where its value begins."""
    equals = text.find("=", at, end)
    name = text[at : equals if equals >= 0 else end].strip(_BLANKS)
    if name.startswith(("export ", "export\t")):
        name = name[len("export ") :].strip(_BLANKS)
    if equals < 0:
        raise EnvFileError(_line_number(text, at), "there is no '='; write NAME=value")
    if not (name.isascii() and name.isidentifier()):
        raise EnvFileError(
            _line_number(text, at), "what stands before '=' is not a name of letters, digits and '_'"
        )
    return name, equals + 1


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at ``at``, and where the next line does."""
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    if at < len(text) and text[at] in _ESCAPES:
        return _quoted(text, at)
    end = _line_end(text, at)
    comment = min(
        (found for mark in (" #", "\t#") if (found := text.find(mark, at - 1, end)) >= 0), default=end
    )
    value = text[at : max(at, comment)].strip(_BLANKS)
    if "\r" in value:
        raise EnvFileError(
            _line_number(text, at), "a carriage return stands alone; write \\r in double quotes"
        )
    return value, end + 1


def _quoted(text: str, start: int) -> tuple[str, int]:
    quote = text[start]
    escapes = _ESCAPES[quote]
    parts: list[str] = []
    at = start + 1
    while True:
        close, backslash = text.find(quote, at), text.find("\\", at)
        if close < 0:
            raise EnvFileError(
                _line_number(text, start),
                f"the value's {quote} is never closed; close it, or write it with a backslash before it",
            )
        if not 0 <= backslash < close:
            parts.append(text[at:close])
            return "".join(parts), _after_quote(text, close + 1)
        following = text[backslash + 1]  # there is one: the closing quote comes after the backslash
        parts += text[at:backslash], escapes.get(following, "\\" + following)
        at = backslash + 2


def _after_quote(text: str, at: int) -> int:
    end = _line_end(text, at)
    rest = text[at:end].strip(_BLANKS)
    if rest and not rest.startswith("#"):
        raise EnvFileError(
            _line_number(text, at), "something follows the closing quote; put it inside, or after a #"
        )
    return end + 1


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return end if end >= 0 else len(text)


def _line_number(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
