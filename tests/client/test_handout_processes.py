"""The address ``fd:N`` in other processes: many at once, one without sockets, one in a PID namespace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

import keyholt
from tests.client.conftest import command_line, environment
from tests.client.handing_out import CANARY, address_of

PROGRAM = """
import sys, keyholt
for _ in range(5):
    with keyholt.connect() as client:
        assert client.get("fd/a").text == sys.argv[1]
"""


def test_any_number_of_processes_share_it(shared: socket.socket) -> None:
    """Twelve processes that have inherited one descriptor connect again and again, at the same time."""
    env = {**environment(), "KEYHOLT_ADDRESS": address_of(shared)}
    command = [sys.executable, "-c", PROGRAM, CANARY]
    children = [subprocess.Popen(command, env=env, pass_fds=[shared.fileno()]) for _ in range(12)]
    assert [child.wait(60) for child in children] == [0] * 12
    assert keyholt.get("fd/a", address=address_of(shared)).text == CANARY


def test_the_command_line_takes_the_fast_path_there(shared: socket.socket) -> None:
    """`get` and `run` fetch over the descriptor, and load no more for it than they must."""
    address = address_of(shared)
    fetched = command_line("get", "fd/a", env={"KEYHOLT_ADDRESS": address}, pass_fds=[shared.fileno()])
    assert (fetched.status, fetched.out.decode(), fetched.err) == (0, CANARY, "")
    listed = command_line("--address", address, "list", "fd/", pass_fds=[shared.fileno()])
    assert listed.out == b"fd/a\n"
    code = "import sys; from keyholt.cli.entry import main; main(); print('argparse' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--address", address, "get", "fd/a"],
        env=environment(),
        capture_output=True,
        pass_fds=[shared.fileno()],
        timeout=30,
        check=True,
    )
    assert done.stdout.decode() == f"{CANARY}False\n"


SANDBOXED = """
import ctypes, struct, sys
# Linux's AUDIT_ARCH is not looked at: the program below makes no foreign system calls.
def instruction(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
program = b"".join([
    instruction(0x20, 0, 0, 0),             # load the system call's number
    instruction(0x15, 0, 3, int(sys.argv[1])),  # socket(2)?
    instruction(0x20, 0, 0, 16),            # load its first argument
    instruction(0x15, 0, 1, 1),             # AF_UNIX?
    instruction(0x06, 0, 0, 0x00050000 | 97),   # EAFNOSUPPORT
    instruction(0x06, 0, 0, 0x7FFF0000),    # allow
])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter = Program(len(program) // 8, program)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0
import socket
try:
    socket.socket(socket.AF_UNIX)
except OSError:
    import keyholt
    print(keyholt.get("fd/a").text)
"""
SYS_SOCKET = {"x86_64": 41, "aarch64": 198}


def test_a_program_that_may_open_no_socket_reaches_the_agent(shared: socket.socket) -> None:
    """Under a seccomp filter without AF_UNIX, as systemd's RestrictAddressFamilies= makes one."""
    number = SYS_SOCKET[os.uname().machine]
    done = subprocess.run(
        [sys.executable, "-c", SANDBOXED, str(number)],
        env={**environment(), "KEYHOLT_ADDRESS": address_of(shared)},
        pass_fds=[shared.fileno()],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{CANARY}\n", b"")


NUMBERED_LIKE_A_PID = """
import os, socket, sys
import keyholt
assert os.getpid() == 1
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
connection, other = socket.socketpair()
mine, partner = socket.socketpair()
with open("/dev/null", "rb") as file:
    os.dup2(file.fileno() if sys.argv[1] == "file" else mine.fileno(), 1)
before = os.fstat(1)
socket.send_fds(theirs, [b"x"], [connection.fileno()])
try:
    keyholt.connect(f"fd:{ours.fileno()}", timeout=0.5)
except keyholt.AgentUnreachableError as error:
    assert "a message without a connection" in str(error), error
assert (os.fstat(1).st_dev, os.fstat(1).st_ino) == (before.st_dev, before.st_ino)
try:
    sys.exit(f"the partner was sent {partner.recv(100, socket.MSG_DONTWAIT)}")
except BlockingIOError:
    pass
"""
"""A client whose descriptor 1 has the number of the sender's pid, which is its own in a PID namespace."""


@pytest.mark.parametrize("own", ["file", "socket"])
def test_a_senders_pid_is_no_descriptor(own: str) -> None:
    """Another holder can have the kernel send credentials in the place of rights: an open file of this
    program that has their number is neither closed nor spoken to.
    """
    namespace = ["unshare", "--pid", "--fork", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    done = subprocess.run(
        [*namespace, sys.executable, "-c", NUMBERED_LIKE_A_PID, own],
        env=environment(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
