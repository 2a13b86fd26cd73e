"""Addresses: their forms, what each refusal says, and which one is chosen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyholt import address as place
from keyholt.address import MAX_SOCKET_PATH, SYSTEM_SOCKET, Address, choose, parse
from keyholt_protocol.errors import InvalidRequestError


@pytest.mark.parametrize(
    "text,path",
    [
        ("/run/a.sock", "/run/a.sock"),
        ("unix:/run/a.sock", "/run/a.sock"),
        ("a.sock", "a.sock"),
        ("unix:b:c", "b:c"),
        ("unix:fd:3", "fd:3"),
        ("./fd:3", "./fd:3"),
        ("unix:unix:x", "unix:x"),
        ("/run/what?/a.sock", "/run/what?/a.sock"),
        ("/run/a.sock?uid=5", "/run/a.sock?uid=5"),
        ("unix:what?", "what"),
        ("unix:what?/a.sock?", "what?/a.sock"),
    ],
)
def test_paths(text: str, path: str) -> None:
    """A path stands for itself; behind ``unix:`` what follows its last question mark is a query."""
    assert (parse(text).kind, parse(text).path, parse(text).uid) == ("unix", path, None)


@pytest.mark.parametrize(
    "text,uid",
    [("unix:/run/a.sock?uid=998", 998), ("fd:3?uid=0", 0), ("unix:a?b?uid=4294967294", 4294967294)],
)
def test_an_address_says_the_uid_of_its_server(text: str, uid: int) -> None:
    """``?uid=N`` is part of the address: it is printed with it, and another uid is another address."""
    address = parse(text)
    assert (address.uid, str(address)) == (uid, text)
    assert parse(text.replace(str(uid), "7")) != address != parse(text.partition("?")[0])


@pytest.mark.parametrize("text", ["http://x", "tls://h:1", "tcp://127.0.0.1:7070"])
def test_only_what_is_served_is_offered(text: str) -> None:
    """What cannot be connected to is refused where it is read, by the forms that can."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(text)
    begun = text.partition("//")[0]
    said = f"the address begins with {begun}//, which is not served; write a path, unix:PATH or fd:N"
    assert str(caught.value) == said


def test_descriptors() -> None:
    """``fd:N`` names an inherited descriptor."""
    address = parse("fd:2147483647")
    assert (address.kind, address.descriptor, str(address)) == ("fd", 2147483647, "fd:2147483647")
    assert parse("fd:03") == parse("fd:3") != parse("fd:4")


@pytest.mark.parametrize(
    "text",
    [
        "unix:",
        "a\0b",
        "x" * (MAX_SOCKET_PATH + 1),
        "http://localhost:1",
        "fd:",
        "fd:-1",
        "fd:x",
        "fd:٣",
        "fd:2147483648",
        "fd:00000000003",
        "unix:?uid=1",
        "unix:/a?gid=1",
        "unix:/a?uid",
        "unix:/a?uid=",
        "unix:/a?uid=-1",
        "unix:/a?uid=+1",
        "unix:/a?uid=01",
        "unix:/a?uid=root",
        "unix:/a?uid=1 ",
        "unix:/a?uid=٣",
        "unix:/a?uid=4294967295",
        "unix:/a?uid=1&uid=1",
        "unix:/a?uid=1&",
        "unix:/a?&uid=1",
        "unix:/a?UID=1",
        "unix:/a?uid=1#x",
        "fd:3?uid=x",
        "fd:3?fd=4",
        "fd:?uid=1",
    ],
)
def test_refused_forms(text: str) -> None:
    """What has none of the forms is refused with a sentence."""
    with pytest.raises(InvalidRequestError, match=r"address|path|fd:"):
        parse(text)


@given(
    st.text(max_size=200)
    | st.from_regex(r"(unix:|fd:|fd:3\?|unix:/a\?uid=|tls://|tcp://127)[ -~]{0,20}", fullmatch=True)
)
def test_any_text_is_an_address_or_a_named_error(text: str) -> None:
    """Parsing never ends in another exception, and what parses prints as something that parses to the
    same.
    """
    try:
        address = parse(text)
    except InvalidRequestError:
        return
    again = parse(str(address))
    assert again == address
    for name in Address.__slots__:
        assert getattr(again, name) == getattr(address, name)


def test_order_of_choice(tmp_path: Path) -> None:
    """The argument comes before the environment, that before the user's socket if it exists, then the
    system's.
    """
    own = tmp_path / "keyholt" / "agent.sock"
    environ = {"KEYHOLT_ADDRESS": "/env.sock", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert choose("/given.sock", environ) == Address("unix", path="/given.sock")
    assert choose(None, environ).path == "/env.sock"
    del environ["KEYHOLT_ADDRESS"]
    assert choose(None, environ).path == SYSTEM_SOCKET
    own.parent.mkdir()
    own.touch()
    assert choose(None, environ).path == str(own)
    assert choose(None, {}).path == SYSTEM_SOCKET


def test_without_a_variable_the_directory_of_the_login_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `su -` and in cron: ``/run/user/UID`` if it is this user's, and the socket is there; a
    variable goes before it.
    """
    own = tmp_path / str(os.geteuid()) / "keyholt" / "agent.sock"
    monkeypatch.setattr(place, "RUNTIME_DIRECTORIES", str(tmp_path))
    assert choose(None, {}).path == SYSTEM_SOCKET
    own.parent.mkdir(parents=True)
    assert choose(None, {}).path == SYSTEM_SOCKET
    own.touch()
    assert choose(None, {}).path == str(own)
    assert choose(None, {"XDG_RUNTIME_DIR": "/elsewhere"}).path == SYSTEM_SOCKET
    own.parent.parent.rename(tmp_path / "4711")
    monkeypatch.setattr("posix.geteuid", lambda: 4711)
    assert choose(None, {}).path == SYSTEM_SOCKET
