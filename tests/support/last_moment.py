"""A command, looked at when it has done all of its work and not yet ended."""

from __future__ import annotations

import os
import subprocess
from threading import Thread
from typing import TYPE_CHECKING, Final

from tests.support import registers
from tests.support.memory_scan import scan_contents, scan_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["left_at_exit"]

STOP_AND_BECOME: Final = ["sh", "-c", 'kill -STOP $$ && exec "$@"', "sh"]


def left_at_exit(
    command: Sequence[str],
    needles: Mapping[str, bytes],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str],
) -> tuple[int, bytes, dict[str, list[str]]]:
    """The exit status of a command, what it wrote, and the places of needles in its registers and memory."""
    with subprocess.Popen(
        [*STOP_AND_BECOME, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # no terminal to ask on
    ) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        written: list[bytes] = []
        talk = Thread(target=lambda: written.append(process.communicate(stdin)[0]))
        talk.start()
        with registers.stopped_at_exit(process.pid):
            scans = (
                scan_contents(registers.read_stopped(process.pid), list(needles.values())),
                scan_process(process.pid, list(needles.values())),
            )
        talk.join()
    found = {name: [place for scan in scans for place in scan.places[one]] for name, one in needles.items()}
    return process.returncode, written[0], {name: places for name, places in found.items() if places}
