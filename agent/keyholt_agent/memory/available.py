"""How much memory may be taken now without hurting anybody: of the machine, and of the agent's control group.

- What is free, and what the kernel gives up for whoever asks: the caches of files. It counts as free here.
- A limit of a control group, such as a unit's ``MemoryMax=``, is kept by the kernel's killing the agent: it
  has to be known beforehand. Both versions of control groups are asked, and every group above the agent's.
- It reads files, which may take some milliseconds: call it in a thread.
- An answer is out of date when it is given. Nothing is reserved by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["available_memory"]

_GROUPS: Final = "sys/fs/cgroup"

_FILES: Final = {
    "0": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By the controllers of a line of /proc/self/cgroup, ``0`` for version 2: where its groups lie, and what
holds a group's limit, its use, and the part of that which the kernel gives up first (cgroup-v2.rst,
memory.rst)."""


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that may be taken, 0 at least.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return max(0, min((_of_machine(root), *_of_groups(root))))


def _of_machine(root: Path) -> int:
    if (kib := _field(root / "proc/meminfo", "MemAvailable:")) is not None:
        return kib * 1024
    # Without that file, as in a unit with ProcSubset=pid: what nobody uses, not even as a cache.
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups(root: Path) -> Iterator[int]:
    """What is left in each group that the agent is in and that has a limit."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in ("0",) if number == "0" else controllers.split(","):
            if controller in _FILES:
                yield from _of_group(root, controller, path)


def _of_group(root: Path, controller: str, path: str) -> Iterator[int]:
    mount, limit_name, used_name, cached_name = _FILES[controller]
    top = root / _GROUPS / mount
    # A group outside of what is mounted here is named by ``..``: its files are not to be seen.
    group = Path(os.path.normpath(f"{top}/{path}"))
    for folder in (group, *group.parents):
        if not folder.is_relative_to(top):
            return
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and used is not None:
            yield limit - used + (_field(folder / "memory.stat", cached_name) or 0)


def _number(file: Path) -> int | None:
    """The number that a file holds; None without one, as where there is no limit (``max``)."""
    for line in _lines(file):
        return int(line) if line.isdecimal() else None
    return None


def _field(file: Path, name: str) -> int | None:
    """The number behind a name, at the beginning of a line."""
    for line in _lines(file):
        first, *rest = line.split()
        if first == name and rest and rest[0].isdecimal():
            return int(rest[0])
    return None


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text("ascii", errors="replace").splitlines() if line.strip()]
    except OSError:
        return []
