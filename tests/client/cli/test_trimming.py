"""`put --trim` leaves line ends out, and a value that keeps one is told of."""

from __future__ import annotations

from tests.client.conftest import RunningAgent


def test_put_trims_and_says_what_it_does_not(agent: RunningAgent) -> None:
    """A line with its end is remarked on; with --trim the end is no part of the value; text is as it is."""
    noted = agent.cli("put", "trim/a", stdin=b"line\n")
    assert noted.err == "keyholt: the value ends with a newline; --trim leaves that out\n"
    assert agent.cli("get", "trim/a").out == b"line\n"
    assert agent.cli("put", "trim/a", "--trim", stdin=b"line\r\n\n").err == ""
    assert agent.cli("get", "trim/a").out == b"line"
    assert agent.cli("put", "trim/a", stdin=b"two\nlines\n").err == ""
