"""The file of references keeps what was no secret, and no value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt.cli.envfile import EnvFileError, parse
from keyholt.cli.rewriting import require_plain, rewritten

FILE = b"""\xef\xbb\xbf# head
export A = "one
two" # about A
#OLD=canary
  B=plain  # B=canary
# words = these are kept? no: they look like a variable

C='x'\r
D= # empty
E=stays
A=again
"""


def test_all_but_values_stays() -> None:
    """Comments, `export`, blanks and other variables; what looks like a variable in a comment does not."""
    references = {name: f"keyholt://p/{name}" for name in "ABD"} | {"C": "keyholt://p q/C"}
    text, left_out = rewritten(FILE, references)
    assert text.decode() == (
        "# head\nexport A = keyholt://p/A # about A\n  B=keyholt://p/B\n\n"
        'C="keyholt://p q/C"\nD=keyholt://p/D # empty\nE=stays\nA=keyholt://p/A\n'
    )
    assert left_out == 3


@pytest.mark.parametrize(
    "comments,kept,count",
    [
        ("#K=-----BEGIN\n# canary\n#\n  #canary\n\n# about\n", "\n# about\n", 4),
        ("#my.key=canary\n", "", 1),
        ("# password: canary\n# canary\n", "", 2),
        ("# about\n#  K = canary\nB=1\n# about B\n", "# about\nB=1\n# about B\n", 1),
    ],
)
def test_comments_that_may_hold_a_value_are_left_out(comments: str, kept: str, count: int) -> None:
    """Also the rest of one of several lines; an empty line or a variable ends that."""
    data = f"A=1\n{comments}Z=2\n"
    assert rewritten(data.encode(), {}) == (f"A=1\n{kept}Z=2\n".encode(), count)


@given(text=st.text("A=1#'\"\\ \n\t", max_size=30), last=st.sampled_from(["", "Z='1'", "Z=1 # c", "Z="]))
def test_what_is_written_means_the_references(text: str, last: str) -> None:
    """Whatever the file is, what is written defines the same names, each with its reference."""
    data = (text + "\n" + last).encode()
    try:
        names = parse(data)
    except EnvFileError:
        return
    references = {name: f"keyholt://p/{name}" for name in names}
    assert parse(rewritten(data, references)[0]) == references


@pytest.mark.parametrize("value", ["${B}", '"a${B}"', "x\\\\${B}"])
def test_what_others_expand_is_refused(value: str) -> None:
    """By line and name; not for a variable that is not asked about."""
    data = f"Z=1\nA={value}\n".encode()
    with pytest.raises(EnvFileError, match=r"line 2: the value of A has"):
        require_plain(data, {"A", "Z"})
    require_plain(data, {"Z"})


@pytest.mark.parametrize("value", ["'${B}'", '"\\${B}"', "$B", "pa$$word", "$(id)", "a$"])
def test_what_is_meant_as_it_stands(value: str) -> None:
    """In single quotes, escaped, or no variable in braces."""
    require_plain(f"A={value}\n".encode(), {"A"})
