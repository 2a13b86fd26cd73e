"""How much memory may be taken: of the machine, and of every control group above the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keyholt_agent.memory.available import available_memory

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3

Files = dict[str, str]


def version_2(group: str, limit: object, used: int, cached: int = 0) -> Files:
    """The files of one group of version 2."""
    return {
        f"sys/fs/cgroup{group}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup{group}/memory.current": f"{used}\n",
        f"sys/fs/cgroup{group}/memory.stat": f"anon 5\ninactive_file {cached}\nactive_file 7\n",
    }


def version_1(group: str, limit: int, used: int, cached: int = 0) -> Files:
    """The files of one group of version 1."""
    folder = f"sys/fs/cgroup/memory{group}"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"inactive_file 1\ntotal_inactive_file {cached}\n",
    }


def machine(root: Path, files: Files, groups: str, *, free: int = 8 * GIB) -> int:
    """What is available on a machine with these files."""
    files = {
        "proc/meminfo": f"MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: {free // 1024} kB\n",
        "proc/self/cgroup": groups,
        **files,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "ascii")
    return available_memory(root)


def test_this_machine() -> None:
    """Something, and no more than there is."""
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) * 1024
    assert 0 < available_memory() < total


def test_what_the_kernel_can_give_up_is_available(tmp_path: Path) -> None:
    """Not only what nobody uses, which is next to nothing on a machine that has run for a while."""
    assert machine(tmp_path, {}, "0::/\n") == 8 * GIB


@pytest.mark.parametrize(
    "files, groups, expected",
    [
        (version_2("/a/b.service", GIB, GIB // 4), "0::/a/b.service\n", 3 * GIB // 4),
        (version_2("/a/b.service", GIB, GIB // 2, GIB // 4), "0::/a/b.service\n", 3 * GIB // 4),
        (version_2("/a/b.service", "max", GIB), "0::/a/b.service\n", 8 * GIB),
        (version_2("/a", GIB, 0) | version_2("/a/b", "max", 0), "0::/a/b\n", GIB),
        (version_2("/a", 2 * GIB, 0) | version_2("/a/b", GIB, 0), "0::/a/b\n", GIB),
        (version_2("/a", GIB, 2 * GIB), "0::/a\n", 0),
        (version_2("", GIB, 0), "0::/\n", GIB),
        (version_2("/../other", GIB, 0), "0::/../other\n", 8 * GIB),
        (version_1("/a", GIB, GIB // 2, GIB // 8), "9:name=systemd:/\n4:memory:/a\n0::/\n", 5 * GIB // 8),
        (version_1("/a", 2**63 - 4096, GIB), "4:memory:/a\n", 8 * GIB),
        (version_1("/a", GIB, 0), "4:hugetlb,memory:/a/b\n", GIB),
        ({}, "0::/a\n4:memory:/a\n", 8 * GIB),
        ({"sys/fs/cgroup/a/memory.max": "\n", "sys/fs/cgroup/a/memory.current": "x"}, "0::/a\n", 8 * GIB),
        ({}, "nothing of the kind\n:\n", 8 * GIB),
    ],
)
def test_groups(tmp_path: Path, files: Files, groups: str, expected: int) -> None:
    """The least that is left in any group above it; caches of files count as free, as they do outside."""
    assert machine(tmp_path, files, groups) == expected


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    """A unit may be kept from /proc: then it is what the kernel says otherwise."""
    assert available_memory(tmp_path) > 0
