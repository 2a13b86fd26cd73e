r"""The ``.env`` format: names and values, one after the other.

====================== ====================================================================================
line                   meaning
====================== ====================================================================================
empty, ``# ...``       nothing
``NAME=value``         to the end of the line or to `` #``; blanks around it do not count; no escapes
``NAME='value'``       up to the next quote, over several lines if need be; ``\'`` and ``\\`` are escapes
``NAME="value"``       likewise; ``\n \r \t \" \\ \$ \``` are escapes, any other backslash stands for itself
``export NAME=...``    the same as without ``export``
====================== ====================================================================================

- Names are letters, digits and ``_``, not beginning with a digit. A name given twice has its last value.
- ``$NAME`` is not replaced by anything. Line ends may be CRLF; a CR alone is none. Text is UTF-8, a byte
  order mark is skipped.
- An error names the line and never repeats what is on it.
- It is read as bytes, and each value stands in a ``bytearray`` of its own: nothing is left of one that is
  wiped. Only a file that is not ASCII passes through text, which shows whether it is UTF-8; that copy cannot
  be wiped.
- `keyholt run` goes through here: nothing is imported, ``re`` least of all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["EnvFileError", "definitions", "normal", "parse", "variables", "write_variable"]

_BLANKS: Final = b" \t"
_ESCAPES: Final = {
    b"'": {b"'": b"'", b"\\": b"\\"},
    b'"': {b"n": b"\n", b"r": b"\r", b"t": b"\t", b'"': b'"', b"\\": b"\\", b"$": b"$", b"`": b"`"},
}
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,=?")
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
    return {name: str(value, "utf-8") for name, value, _ in variables(data)}


def variables(data: bytes | bytearray | memoryview) -> Iterator[tuple[str, bytearray, int]]:
    """Each name, its value, which is the caller's, and the line that it stands on, counted from 1; a name may
    come again.

    Raises:
        EnvFileError: names the line that is wrong, and how.
    """
    text = normal(data)
    try:
        for name, value, line, _, _ in definitions(text):
            yield name, value, line
    finally:
        text[:] = bytes(len(text))


def normal(data: bytes | bytearray | memoryview) -> bytearray:
    """The text without carriage returns at line ends and without a byte order mark, the caller's to wipe.

    Raises:
        EnvFileError: it is not UTF-8.
    """
    whole = bytearray(data)
    text = whole.replace(b"\r\n", b"\n")
    whole[:] = bytes(len(whole))
    try:
        _require_utf8(text)
    except EnvFileError:
        text[:] = bytes(len(text))
        raise
    if text.startswith(_BYTE_ORDER_MARK):
        del text[: len(_BYTE_ORDER_MARK)]
    return text


def definitions(text: bytearray) -> Iterator[tuple[str, bytearray, int, int, int]]:
    """What ``variables`` gives of a normal text, and from where to where the value stands, its quotes
    included.

    Raises:
        EnvFileError: names the line that is wrong, and how.
    """
    at, line = 0, 1
    while at < len(text):
        end = _line_end(text, at)
        begin = _after_blanks(text, at, end)
        following = end + 1
        if begin < end and not text.startswith(b"#", begin):
            name, equals = _name(text, begin, end)
            value, close, following = _value(text, equals + 1)
            first = _after_blanks(text, equals + 1, end)
            if first == close:  # it is empty, and a comment may stand there
                first = close = equals + 1
            yield name, value, line, first, close
        line += text.count(b"\n", at, following)
        at = following


def write_variable(name: str, value: str) -> str:
    """The line, with its end, that ``parse`` reads as this variable, and a shell that the file is sourced by.

    A shell runs what stands in backticks or ``$()``, in double quotes too. There they are escaped; in single
    quotes they are safe with whatever reads the file, but a shell knows no escapes there. Only of a carriage
    return does a shell make something else.
    """
    if value and _PLAIN.issuperset(value):
        return f"{name}={value}\n"
    if ("$" in value or "`" in value) and not _escaped_in_single_quotes(value):
        return f"{name}='{value}'\n"
    quoted = value.replace("\\", "\\\\").replace("\r", "\\r")
    for character in '"$`':
        quoted = quoted.replace(character, f"\\{character}")
    return f'{name}="{quoted}"\n'


def _escaped_in_single_quotes(value: str) -> bool:
    return "'" in value or "\r" in value or "\\\\" in value or value.endswith("\\")


def _require_utf8(text: bytearray) -> None:
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
    else:
        return
    raise EnvFileError(line, "it is not UTF-8 text; save the file as UTF-8")


def _name(text: bytearray, at: int, end: int) -> tuple[str, int]:
    """The name on the line from ``at`` to ``end``, and where its equals sign stands."""
    equals = text.find(b"=", at, end)
    if equals < 0:
        raise EnvFileError(_line_number(text, at), "there is no '='; write NAME=value")
    name = str(text[at:equals].strip(_BLANKS), "utf-8")
    if name.startswith(("export ", "export\t")):
        name = name[len("export ") :].strip(_BLANKS.decode())
    if not (name.isascii() and name.isidentifier()):
        raise EnvFileError(
            _line_number(text, at), "what stands before '=' is not a name of letters, digits and '_'"
        )
    return name, equals


def _value(text: bytearray, at: int) -> tuple[bytearray, int, int]:
    """The value that begins at ``at``, where it ends, and where the next line begins."""
    end = _line_end(text, at)
    begin = _after_blanks(text, at, end)
    if bytes(text[begin : begin + 1]) in _ESCAPES:
        return _quoted(text, begin)
    comments = (text.find(mark, max(at, begin - 1), end) for mark in (b" #", b"\t#"))
    close = min((found for found in comments if found >= 0), default=end)
    while close > begin and text[close - 1] in _BLANKS:
        close -= 1
    if text.find(b"\r", begin, close) >= 0:
        raise EnvFileError(
            _line_number(text, at), "a carriage return stands alone; write \\r in double quotes"
        )
    close = max(begin, close)
    return text[begin:close], close, end + 1


def _quoted(text: bytearray, start: int) -> tuple[bytearray, int, int]:
    quote = bytes(text[start : start + 1])
    escapes = _ESCAPES[quote]
    view = memoryview(text)
    parts: list[memoryview | bytes] = []
    at = start + 1
    while True:
        close, backslash = text.find(quote, at), text.find(b"\\", at)
        if close < 0:
            raise EnvFileError(
                _line_number(text, start),
                f"the value's {quote.decode()} is never closed; "
                "close it, or write it with a backslash before it",
            )
        if not 0 <= backslash < close:
            parts.append(view[at:close])
            return _joined(parts), close + 1, _after_quote(text, close + 1)
        following = bytes(
            view[backslash + 1 : backslash + 2]
        )  # there is one: the quote comes after the backslash
        parts += view[at:backslash], escapes.get(following, b"\\" + following)
        at = backslash + 2


def _joined(parts: list[memoryview | bytes]) -> bytearray:
    """The parts in one piece, whose memory is taken once: one that grows leaves copies behind."""
    whole = bytearray(sum(map(len, parts)))
    rest = memoryview(whole)
    for part in parts:
        rest[: len(part)] = part
        rest = rest[len(part) :]
    return whole


def _after_quote(text: bytearray, at: int) -> int:
    end = _line_end(text, at)
    rest = _after_blanks(text, at, end)
    if rest < end and not text.startswith(b"#", rest):
        raise EnvFileError(
            _line_number(text, at), "something follows the closing quote; put it inside, or after a #"
        )
    return end + 1


def _after_blanks(text: bytearray, at: int, end: int) -> int:
    while at < end and text[at] in _BLANKS:
        at += 1
    return at


def _line_end(text: bytearray, at: int) -> int:
    end = text.find(b"\n", at)
    return end if end >= 0 else len(text)


def _line_number(text: bytearray, at: int) -> int:
    return text.count(b"\n", 0, at) + 1
