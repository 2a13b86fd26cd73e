"""The forms of an export: what reads them gets the values back, byte by byte, or is told of it."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt.cli.envfile import parse
from keyholt.cli.formats import FormatError, write

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(value=TEXTS)
def test_env_is_read_back(value: str) -> None:
    """What is written is read as the same value by what `run` and `import` read with."""
    assert parse(write("env", {"A": bytearray(value.encode())})) == {"A": value}


@given(value=st.text(st.characters(codec="utf-8"), max_size=30), name=TEXTS)
def test_json_is_read_back(value: str, name: str) -> None:
    """Any text is a value and a name."""
    assert json.loads(write("json", {name: bytearray(value.encode())})) == {name: value}


def test_yaml_has_one_line_for_each() -> None:
    """All that YAML could take for something else is in quotes, and what is not printable is escaped."""
    values = {"no": bytearray(b"1.0"), "a: b": bytearray('"\\\n\U0001f600\x85\U000e0001'.encode())}
    assert write("yaml", values).decode() == (
        '"no": "1.0"\n"a: b": "\\"\\\\\\U0000000a\U0001f600\\U00000085\\U000e0001"\n'
    )


def test_a_shell_reads_every_byte() -> None:
    """All bytes that a variable can have are the same in a shell that evaluates what was written."""
    value = bytes(range(1, 256)) + b"''$(id)`id`\n"
    script = write("shell", {"A": bytearray(value)}) + b'printf %s "$A"\n'
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, check=True)
    assert done.stdout == value


@pytest.mark.parametrize(
    "kind,name,value",
    [
        ("env", "A", b"a\0b"),
        ("shell", "A", b"a\0b"),
        ("env", "A", b"\xff"),
        ("json", "A", b"\xff"),
        ("yaml", "A", b"\xff"),
        ("env", "a-b", b""),
        ("shell", "a;b", b""),
    ],
)
def test_what_cannot_be_written_is_named(kind: str, name: str, value: bytes) -> None:
    """The error has the name, and says what else to do."""
    with pytest.raises(FormatError, match=f"{name}.* give "):
        write(kind, {name: bytearray(value)})
