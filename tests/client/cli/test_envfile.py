"""Files of variables: every form of a line, what is written reads as it was, mistakes have their line."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyholt.cli.envfile import EnvFileError, parse, variables, write_variable

FILE = """\ufeff# an application's settings
DATABASE_URL=postgres://user:p%40ss@db/app?sslmode=require&x=1   # with a comment
  export   NAME = Zoë Müller\t
EMPTY=
EMPTY_TOO=   # nothing
HASH=a#b
QUOTED="two\\nlines \\"and\\" \\\\ a \\$ and \\q"  # after it
LITERAL='no $ubstitution \\n, isn\\'t it'
KEY="-----BEGIN PRIVATE KEY-----
MIIE==
-----END PRIVATE KEY-----
"
SPACES="  kept  "
TWICE=1
TWICE=2
"""

MEANING = {
    "DATABASE_URL": "postgres://user:p%40ss@db/app?sslmode=require&x=1",
    "NAME": "Zoë Müller",
    "EMPTY": "",
    "EMPTY_TOO": "",
    "HASH": "a#b",
    "QUOTED": 'two\nlines "and" \\ a $ and \\q',
    "LITERAL": "no $ubstitution \\n, isn't it",
    "KEY": "-----BEGIN PRIVATE KEY-----\nMIIE==\n-----END PRIVATE KEY-----\n",
    "SPACES": "  kept  ",
    "TWICE": "2",
}

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_form(end: str) -> None:
    """Each form of a line means what the table in the module says, with either line end."""
    assert parse(FILE.replace("\n", end).encode()) == MEANING


def test_each_variable_has_its_line() -> None:
    """Lines are counted through comments and long values; a name that comes twice is there twice."""
    places = [(name, line) for name, _, line in variables(FILE.encode())]
    assert places[0] == ("DATABASE_URL", 2)
    assert places[-4:] == [("KEY", 9), ("SPACES", 13), ("TWICE", 14), ("TWICE", 15)]


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_is_written_reads_as_it_was(variables: dict[str, str]) -> None:
    """Any value survives being written and read, in any order and beside any other."""
    text = "".join(write_variable(name, value) for name, value in variables.items())
    assert parse(text.encode()) == variables


COMMANDS = st.text("`$()'\"\\\\\n !#~a=;&", min_size=1, max_size=12)


@settings(max_examples=5)  # in each are many
@given(st.lists(COMMANDS, min_size=40, max_size=40))
def test_a_shell_runs_nothing_of_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    """It reads the values as they were, and so do we."""
    values += [
        "`echo canary`",
        "it's `echo canary`",
        "$(echo canary)'",
        "~",
        "~root:~",
        "\\`a\\`",
        "a$\\",
        "'$\\",
    ]
    named = {f"A{number}": value for number, value in enumerate(values)}
    text = "".join(write_variable(name, value) for name, value in named.items())
    assert parse(text.encode()) == named
    file = tmp_path_factory.mktemp("sourced") / "env"
    file.write_text(text)
    shown = "".join(f'printf "%s\\0" "$A{number}";' for number in range(len(values)))
    ran = subprocess.run(["sh", "-c", f'. "$1"; {shown}', "sh", str(file)], check=True, capture_output=True)
    assert (ran.stdout.decode().split("\0")[:-1], ran.stderr) == (values, b"")


@given(st.binary(max_size=80) | st.text(alphabet="A=\"'\\ #\n\r$x", max_size=40).map(str.encode))
def test_any_bytes_are_variables_or_an_error_with_a_line(data: bytes) -> None:
    """Reading never ends in another exception, and the line is one that the file has."""
    line = 1
    try:
        parse(data)
    except EnvFileError as error:
        line = error.line
    assert 1 <= line <= data.count(b"\n") + 1


@pytest.mark.parametrize(
    "text,line,problem",
    [
        ("A=1\nB", 2, "there is no '='"),
        ("A B=1", 1, "is not a name"),
        ("1A=1", 1, "is not a name"),
        ("É=1", 1, "is not a name"),
        ("=1", 1, "is not a name"),
        ('\n\nA="canary\nB=2', 3, "is never closed"),
        ("A='canary\\'", 1, "is never closed"),
        ('A="x"canary', 1, "follows the closing quote"),
        ("A=1\nB=\udcff", 2, "not UTF-8"),
        ("A=1\rB=canary\r", 1, "a carriage return stands alone"),
        ("A='two\nlines'\nB=canary\rx", 3, "a carriage return stands alone"),
    ],
)
def test_errors_name_the_line_and_not_the_value(text: str, line: int, problem: str) -> None:
    """Each mistake is told with its line; the value on it is not."""
    with pytest.raises(EnvFileError, match=problem) as caught:
        parse(text.encode(errors="surrogateescape"))
    assert caught.value.line == line
    assert "canary" not in str(caught.value)
