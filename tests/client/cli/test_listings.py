"""``put`` keeps labels and expiry, and takes them away when told; listings mark what is not given out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import keyholt
from tests.client.conftest import RunningAgent
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT
from tests.support.wire import WireClient


def kept(agent: RunningAgent, path: str) -> tuple[Any, Any]:
    """The labels and the expiry that a fetch says."""
    shown = json.loads(agent.cli("--json", "get", path).out)
    return shown["labels"], shown["expires"]


def test_put_keeps_and_takes_away(agent: RunningAgent) -> None:
    """Without a word both stay; ``--no-labels`` and ``--no-expiry`` take away the one and not the other."""
    path = "keeping/a"
    agent.cli("put", path, "--label", "env=prod", "--expires", "90d", stdin=b"one")
    labels, expires = kept(agent, path)
    assert (labels, expires is None) == ({"env": "prod"}, False)
    agent.cli("put", path, stdin=b"two")
    assert kept(agent, path) == (labels, expires)
    agent.cli("put", path, "--no-expiry", stdin=b"three")
    assert kept(agent, path) == (labels, None)
    agent.cli("put", path, "--no-labels", "--expires", "1d", stdin=b"four")
    after = kept(agent, path)
    assert (after[0], after[1] is None) == ({}, False)


@pytest.mark.parametrize(
    "words,remedy",
    [
        (("--expires", "2001-02-03"), "give a time to come"),
        (("--expires", "0d"), "give a time to come"),
        (("--no-expiry", "--expires", "1d"), "not both"),
        (("--no-labels", "--label", "a=b"), "not both"),
    ],
)
def test_put_refuses_what_cannot_be_meant(agent: RunningAgent, words: tuple[str, ...], remedy: str) -> None:
    """A usage error with its remedy, and nothing is written."""
    refused = agent.cli("put", "keeping/refused", *words, stdin=b"v")
    assert (refused.status, remedy in refused.err) == (2, True)
    assert agent.cli("get", "keeping/refused").status == 3


def test_what_is_not_given_out_is_marked(agent: RunningAgent) -> None:
    """In every listing on a terminal, and in the long one everywhere."""
    with WireClient(Path(agent.address)) as wire:  # no client of ours writes what has expired already
        wire.call("secret.put", b"x", path="marked/past", expires=int(time.time()) - 10).expect()
    with keyholt.connect(agent.address) as client:
        client.put("marked/gone", "x")
        client.destroy("marked/gone", version=1)
        client.put("marked/秘密", "x")
    with Terminal([KEYHOLT, "--address", agent.address, "list", "marked/"], {}) as screen:
        assert screen.end() == 0
        assert screen.shown.decode().splitlines() == [
            "marked/gone  (destroyed)",
            "marked/past  (expired)",
            "marked/秘密",
        ]
    assert agent.cli("list", "marked/").out.decode() == "marked/gone\nmarked/past\nmarked/秘密\n"
    gone, past, wide = agent.cli("list", "-l", "marked/").out.decode().splitlines()
    assert gone.endswith("destroyed")
    assert "expired" in past
    assert gone.index("v1") == past.index("v1") == wide.index("v1") + 2
