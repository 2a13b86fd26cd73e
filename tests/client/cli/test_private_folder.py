"""The folder that one program sees: for users without privileges too, and where the kernel refuses."""

from __future__ import annotations

import subprocess
import sys

from tests.client.conftest import environment
from tests.support.users import NOBODY, need_other_uids, need_readable_interpreter

LOOK = """
import os, sys
from keyholt.cli.hardening import harden
from keyholt.cli.private_folder import PrivateFolder, choose_place
harden()
script = "id -u; stat -f -c %T .; stat -c %u:%g:%a . value; cat value; echo; echo more > value; exit 7"
place = choose_place()
with PrivateFolder(place, ["sh", "-c", script], {"PATH": "/usr/bin:/bin"}) as folder:
    folder.write("value", b"within")
    status = folder.run()
    print(status, os.read(folder.open("value"), 100), os.path.exists(place + "/value"), flush=True)
"""


def look(*before: str) -> subprocess.CompletedProcess[str]:
    """What the program in the folder says, started by what stands before."""
    return subprocess.run(
        [*before, sys.executable, "-c", LOOK],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd="/",
    )


def test_a_user_without_privileges() -> None:
    """By a user namespace, in which they are who they are."""
    need_other_uids()
    need_readable_interpreter()
    done = look("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    own = f"{NOBODY}:{NOBODY}"
    assert done.stdout.splitlines() == [
        str(NOBODY), "tmpfs", f"{own}:700", f"{own}:600", "within", "7 b'more\\n' False",
    ], done.stderr  # fmt: skip


def test_with_privileges() -> None:
    """A mount namespace is enough."""
    done = look()
    assert done.stdout.splitlines()[1:2] == ["tmpfs"], done.stderr
    assert done.stdout.splitlines()[-1] == "7 b'more\\n' False"


def test_a_kernel_that_refuses() -> None:
    """What is refused is named, and what to allow; the program is not started."""
    limits = "cd /proc/sys/user && echo 0 >max_mnt_namespaces && echo 0 >max_user_namespaces"
    done = look("unshare", "--user", "--map-root-user", "sh", "-c", f'{limits} && exec "$@"', "sh")
    assert done.stdout == ""
    assert "a user namespace is refused here (ENOSPC)" in done.stderr
    assert "sysctl user.max_user_namespaces" in done.stderr
