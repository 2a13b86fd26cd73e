"""Mistakes on the command line: said without repeating a word that was given, which may be a secret."""

from __future__ import annotations

import pytest

from keyholt.cli.command import PASSPHRASE_WAY
from keyholt.cli.errors import UsageError
from keyholt.cli.parser import parse
from keyholt.cli.value import GIVEN

VALUE = "hunter2"
SEE = "see `keyholt unlock --help`"


def refused(*words: str) -> str:
    """What is said of a command line."""
    with pytest.raises(UsageError) as caught:
        parse(words)
    return str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("put", "p", VALUE),
        ("put", "p", "--value", VALUE),
        ("put", "p", f"--value={VALUE}"),
        ("put", "p", f"--{VALUE}"),
        ("put", "p", f"--multiline={VALUE}"),
        ("put", "p", "--label", VALUE, "--if-version", VALUE),
        ("unlock", "--passphrase", VALUE),
        ("unlock", "--passphrase-fd", VALUE),
        ("unlock", f"--pass={VALUE}"),
        ("init", VALUE),
        ("init", "--slot", "a", "b", VALUE),
        (VALUE,),
        ("slot", VALUE),
        ("slot", "add", VALUE, "--name", "x"),
        ("slot", "list", VALUE),
        ("completion", VALUE),
        ("list", f"-l{VALUE}"),
        ("list", "a", VALUE),
        (f"--json={VALUE}", "status"),
        ("--timeout", VALUE, "status"),
        (f"--{VALUE}", "status"),
        ("get", "p", f"-{VALUE}"),
        ("get", "p", "--version", VALUE),
        ("destroy", "p", VALUE),
    ],
)
def test_nothing_that_was_given_is_repeated(words: tuple[str, ...]) -> None:
    """Whatever place a secret stands in by mistake."""
    assert VALUE not in refused(*words)


@pytest.mark.parametrize(
    "words,said",
    [
        (
            ("put", "p", VALUE),
            f"`keyholt put` takes no such argument; {GIVEN}; see `keyholt put --help`",
        ),
        (
            ("unlock", "--passphrase", VALUE),
            f"`keyholt unlock` has no such option (did you mean --passphrase-fd?); {PASSPHRASE_WAY}; {SEE}",
        ),
        (
            ("slot", "list", "a"),
            "`keyholt slot list` takes no such argument; see `keyholt slot list --help`",
        ),
        (
            ("--js", "status"),
            "`keyholt status` has no such option (did you mean --json?); see `keyholt status --help`",
        ),
        (("--json=x", "status"), "argument --json: it takes nothing after it; see `keyholt --help`"),
        (("completion", "csh"), "SHELL is one of bash, zsh, fish; see `keyholt completion --help`"),
        (("gett", "a"), "there is no such command; did you mean 'get'? See `keyholt --help`"),
        (("frobnicate",), "there is no such command; see `keyholt --help`"),
        (("slot", "delete"), "there is no such command; did you mean 'remove'? See `keyholt slot --help`"),
    ],
)
def test_what_to_write_instead_is_said(words: tuple[str, ...], said: str) -> None:
    """How a value or a passphrase is given, the option that is near, the command that is meant."""
    assert refused(*words) == said
