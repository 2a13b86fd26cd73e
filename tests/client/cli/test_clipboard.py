"""The clipboard: a value goes there and not to the terminal, and is cleared unless something else is there.

There is no desktop here: a program that keeps a file stands for xclip, with its options.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import keyholt
from keyholt.cli import clearing
from tests.client.conftest import RunningAgent

XCLIP = """#!/bin/sh
[ "$1 $2" = "-selection clipboard" ] || exit 1
case $3 in
-in) cat > "$CLIPBOARD" ;;
-out) cat "$CLIPBOARD" ;;
esac
"""
VALUE = b"clipped-5e11 \xff\0 value"


@pytest.fixture
def desktop(tmp_path: Path) -> dict[str, str]:
    """Variables of a desktop with a clipboard, which is the file that one of them names."""
    program = tmp_path / "bin" / "xclip"
    program.parent.mkdir()
    program.write_text(XCLIP)
    program.chmod(0o755)
    clipboard = tmp_path / "clipboard"
    clipboard.touch()
    return {"DISPLAY": ":0", "CLIPBOARD": str(clipboard), "PATH": f"{program.parent}:/usr/bin:/bin"}


def test_a_value_is_clipped_and_cleared(agent: RunningAgent, desktop: dict[str, str]) -> None:
    """Byte by byte, printed nowhere; after its seconds it is gone."""
    with keyholt.connect(agent.address) as client:
        client.put("clip/a", VALUE)
    clipboard = Path(desktop["CLIPBOARD"])
    done = agent.cli("--json", "get", "clip/a", "--clip", "--clear-after", "1", env=desktop)
    assert json.loads(done.out) == {"path": "clip/a", "version": 1, "clears_in": 1}
    held = clipboard.read_bytes()
    assert held in {VALUE, b""}  # on a machine that was asleep meanwhile it is cleared already
    for _ in range(3000):
        if not clipboard.read_bytes():
            break
        time.sleep(0.01)
    assert clipboard.read_bytes() == b""


def test_without_a_clipboard(agent: RunningAgent, desktop: dict[str, str], tmp_path: Path) -> None:
    """No desktop, no program, one that fails: said what is missing, and nothing is printed."""
    with keyholt.connect(agent.address) as client:
        client.put("clip/a", VALUE)
    words = ("get", "clip/a", "-c")
    none = agent.cli(*words, env={**desktop, "DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert (none.status, none.out, "there is no desktop here" in none.err) == (1, b"", True)
    bare = agent.cli(*words, env={**desktop, "PATH": "/usr/bin:/bin"})
    assert (bare.status, bare.out, "install wl-clipboard" in bare.err) == (1, b"", True)
    failing = agent.cli(*words, env={**desktop, "CLIPBOARD": str(tmp_path / "none" / "x")})
    assert (failing.status, failing.out, "xclip did not take the value" in failing.err) == (1, b"", True)


@pytest.mark.parametrize("held,left", [(VALUE, b""), (b"something else", b"something else"), (b"", b"")])
def test_only_what_was_put_there_is_cleared(desktop: dict[str, str], held: bytes, left: bytes) -> None:
    """Told to hurry, the waiting program clears at once; what somebody copied meanwhile stays. Nothing of the
    value is in what it was told.
    """
    clipboard = Path(desktop["CLIPBOARD"])
    clipboard.write_bytes(held)
    key = bytes(range(32))
    told = json.dumps(
        {
            "seconds": 1000,
            "key": key.hex(),
            "digest": clearing.digest_of(VALUE, key).hex(),
            "paste": ["xclip", "-selection", "clipboard", "-out"],
            "clear": ["xclip", "-selection", "clipboard", "-in"],
        }
    )
    waiting = subprocess.Popen(
        [sys.executable, "-I", "-S", clearing.__file__], stdin=subprocess.PIPE, env=desktop
    )
    assert waiting.stdin is not None
    # Sent before it is told: it blocks signals first, so the one that comes too early would end it.
    blocked = f"/proc/{waiting.pid}/status"
    for _ in range(3000):
        if "SigBlk:\t0000000000004003" in Path(blocked).read_text():
            break
        time.sleep(0.01)
    waiting.stdin.write(told.encode())
    waiting.stdin.close()
    waiting.terminate()
    assert waiting.wait(30) == 0
    assert clipboard.read_bytes() == left
