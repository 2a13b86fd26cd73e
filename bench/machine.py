"""What the figures were measured on, and which cores there are to measure with.

- Nothing that names the machine or its user: kinds and versions only.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import resource
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Cores", "describe_machine", "descriptor_limit", "file_system"]

QUIET: Final = 0.25
"""Running processes a core, averaged over a minute, below which a machine counts as quiet."""

LIBRARIES: Final = ("trio", "cryptography", "msgpack", "SQLAlchemy", "argon2-cffi", "PyNaCl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Where the server and the load generator run; None for "anywhere", where there is one core only."""

    server: int | None
    load: int | None

    @classmethod
    def available(cls) -> Cores:
        """Two of the cores that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            return cls(server=None, load=None)
        return cls(server=usable[0], load=usable[1])

    @property
    def pinned(self) -> bool:
        return self.server is not None


def describe_machine() -> dict[str, str]:
    """Date, machine, kernel and versions, in the order in which they are told."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{_system()}, kernel {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        "SQLite": sqlite3.sqlite_version,
        "keyholt": importlib.metadata.version("keyholt"),
        "other load": _other_load(),
    }


def descriptor_limit(wanted: int) -> int:
    """Files that this process and those it starts may have open: what is wanted, or as many as can be had."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except ValueError:  # for the administrator only
            wanted = hard
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown processor"


def _other_load() -> str:
    """What else the machine was doing just before, for whoever wonders about a figure."""
    load = os.getloadavg()[0]
    quiet = load < QUIET * len(os.sched_getaffinity(0))
    return f"{load:.1f} ({'quiet' if quiet else 'busy: rates are low, ratios uncertain'})"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def file_system(path: Path) -> str:
    """The kind of file system that a path is on."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "unknown"
