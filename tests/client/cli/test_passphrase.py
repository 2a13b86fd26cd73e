"""Passphrases: the floor for new ones, and what is said of one that opens nothing."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest

from keyholt.cli.passphrase import obtain
from keyholt_protocol.errors import InvalidRequestError
from tests.client.conftest import PASSPHRASE, RunningAgent


def obtained(passphrase: bytes, *, new: bool = True, weak: bool = False) -> bytes:
    """The passphrase as a command has it that was given it by a descriptor."""
    read, write = os.pipe()
    try:
        os.write(write, passphrase)
        os.close(write)
        options = Namespace(passphrase_fd=read, passphrase_file=None, weak=weak)
        return bytes(obtain(options, new=new))
    finally:
        os.close(read)


@pytest.mark.parametrize(
    "weak", ["x", "seven..", "aaaaaaaaaaaaaaaa", "éééééééé", "ééééé", "😀😀😀😀😀😀😀😀😀"]
)
def test_a_new_passphrase_is_held_against_the_floor(weak: str) -> None:
    """Less than eight characters, or one again and again, is refused unless --weak insists; an existing one
    is taken as it is.
    """
    with pytest.raises(InvalidRequestError, match="--weak") as caught:
        obtained(weak.encode())
    assert weak == "x" or weak not in str(caught.value)
    assert obtained(weak.encode(), weak=True) == obtained(weak.encode(), new=False) == weak.encode()


@pytest.mark.parametrize("strong", [b"eight ch", "éèéèéèéè".encode(), b"aaaaaaab", bytes(range(33, 64)), b""])
def test_what_is_above_the_floor(strong: bytes) -> None:
    """Eight characters that are not the same; an empty one the library refuses, for every program."""
    assert obtained(strong) == strong


def test_a_weak_passphrase_makes_no_keyslot(agent: RunningAgent, tmp_path: Path) -> None:
    """`slot add` refuses it, and takes it with --weak."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(PASSPHRASE)
    new.write_bytes(b"x\n")
    files = ("--passphrase-file", str(old), "--new-passphrase-file", str(new))
    words = ("slot", "add", "passphrase", "--name", "frail", *files)
    refused = agent.cli(*words)
    assert (refused.status, "too weak" in refused.err) == (2, True)
    assert agent.cli(*words, "--weak").status == 0
    assert agent.cli("slot", "remove", "frail", "--passphrase-file", str(old)).status == 0


def test_a_file_with_crlf_is_hinted_at(agent: RunningAgent, tmp_path: Path) -> None:
    """The carriage return belongs to the passphrase, which opens nothing then: the error says so; of another
    wrong one it does not.
    """
    file = tmp_path / "passphrase"
    for written, hinted in ((PASSPHRASE + b"\r\n", True), (b"wrong\n", False)):
        file.write_bytes(written)
        failed = agent.cli("unlock", "--passphrase-file", str(file))
        assert (failed.status, "carriage return" in failed.err) == (1, hinted)
    file.write_bytes(PASSPHRASE + b"\n")
    assert agent.cli("unlock", "--passphrase-file", str(file)).status == 0
