"""What ``doctor`` looks at, one function a subject; each gives findings and changes nothing.

- A finding is ``ok``, a ``note`` that needs no action, or ``wrong``, with what to do about it.
- The checks of this machine need no agent; those of the agent read its answer to ``agent.status``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyholt.address import Address
from keyholt.cli.output import counted
from keyholt.cli.quantities import readable_size
from keyholt.connecting import no_socket, to_start
from keyholt.handout import HandOut, HandOutError
from keyholt.peer import UNMAPPED, has_number, read_server, require_trusted
from keyholt_protocol.errors import AgentUntrustedError
from keyholt_protocol.messages import AgentStatusResult, SessionHelloResult

__all__ = [
    "Finding",
    "Server",
    "check_agent_memory",
    "check_directory",
    "check_lock_limit",
    "check_memfd_secret",
    "check_protocol",
    "check_server",
    "check_socket",
    "check_store",
    "check_way",
    "find_server",
]

SYS_MEMFD_SECRET: Final = 447  # x86_64 and aarch64, as in the agent
LEAST_LOCKED: Final = 1024 * 1024
"""Bytes of locked memory without which the agent does not start."""

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``state``: ``ok``, ``note`` or ``wrong``. ``remedy``: what to do; never absent with ``wrong``."""

    state: str
    subject: str
    text: str
    remedy: str | None = None


def _ok(subject: str, text: str) -> Finding:
    return Finding(state="ok", subject=subject, text=text)


def _note(subject: str, text: str, remedy: str) -> Finding:
    return Finding(state="note", subject=subject, text=text, remedy=remedy)


def _wrong(subject: str, text: str, remedy: str) -> Finding:
    return Finding(state="wrong", subject=subject, text=text, remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Who serves at an address, as the kernel says; ``refusal``: why a client sends them nothing, if so."""

    pid: int
    uid: int
    refusal: str | None


def find_server(address: Address) -> Server | None:
    """Who serves at the address; nobody, where none can be reached, which whoever talks to the agent says."""
    try:
        with closing(_lead_to(address)) as sock:
            pid, uid = read_server(sock)
            try:
                require_trusted(sock, address)
            except AgentUntrustedError as error:
                return Server(pid=pid, uid=uid, refusal=str(error))
            return Server(pid=pid, uid=uid, refusal=None)
    except (OSError, HandOutError):
        return None


def _lead_to(address: Address) -> socket.socket:
    """A socket that leads to whoever serves at an address; nothing is sent over it."""
    if address.kind == "fd":
        return socket.socket(fileno=HandOut(address.descriptor).sock.detach())
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(address.path)
    except BaseException:
        sock.close()
        raise
    return sock


def check_server(server: Server) -> Iterator[Finding]:
    """Who serves, and whether they are trusted with what a client sends."""
    text = f"run by {_user(server.uid)}, uid {server.uid}, as process {server.pid or 'unknown'}"
    if server.refusal is None:
        yield _ok("server", text)
    else:
        yield _wrong("server", f"{text}, who is not trusted", server.refusal.rpartition("; ")[2])


def check_way(path: str, server: Server) -> Iterator[Finding]:
    """Every directory on the way to the socket, as written and with links resolved: who could replace it.

    The agent looks at the same when it starts.
    """
    trusted = {0, os.geteuid()}
    if server.refusal is None:
        trusted.add(server.uid)
    if not has_number(UNMAPPED):
        trusted.add(UNMAPPED)  # of all whom this user namespace has no number for, root outside is one
    own = Path(path).absolute().parent
    ends = {own, own.resolve()}
    found: list[Finding] = []
    for directory in sorted(ends.union(*(end.parents for end in ends))):
        status = directory.stat()
        held = status.st_mode & stat.S_ISVTX and directory not in ends
        if status.st_uid not in trusted:
            text = f"{directory} is {_user(status.st_uid)}'s, who can put another socket in this one's place"
            found.append(_wrong("way", text, f"give it to the agent's user: chown USER {directory}"))
        elif status.st_mode & OTHERS_WRITE and not (held and status.st_uid in {0, UNMAPPED}):
            text = f"others can write to {directory}, and put another socket in this one's place"
            sticky = status.st_mode & stat.S_ISVTX
            remedy = f"use a directory below {directory}" if sticky else f"chmod go-w {directory}"
            found.append(_wrong("way", text, remedy))
    yield from found or [_ok("way", "nobody else can put another socket in this one's place")]


def check_socket(path: str) -> Iterator[Finding]:
    """The socket's file: whose it is, and what it is."""
    try:
        entry = os.lstat(path)
    except FileNotFoundError:
        yield _wrong("socket", no_socket(path), to_start(path))
        return
    except OSError as error:
        remedy = "run as a user who may enter its directory, or give another --address"
        yield _wrong("socket", f"{path}: {error.strerror}", remedy)
        return
    about = f"{path}, owned by {_user(entry.st_uid)}, mode {stat.S_IMODE(entry.st_mode):04o}"
    if not stat.S_ISSOCK(entry.st_mode):
        yield _wrong("socket", f"{path} is no socket", "give another --address")
    elif entry.st_uid not in {0, os.geteuid()} and not entry.st_mode & OTHERS:
        yield _wrong("socket", about, "run as the agent's user")
    else:
        yield _ok("socket", about)


def check_protocol(greeting: SessionHelloResult, client_version: str) -> Iterator[Finding]:
    """Whether both sides speak the same protocol, and are of the same release."""
    # An agent of another protocol version refuses the greeting, and is reported as not answering.
    yield _ok("protocol", f"version {greeting.version} on both sides")
    text = f"{greeting.agent}, client {client_version}"
    if greeting.agent.rpartition(" ")[2] == client_version:
        yield _ok("versions", text)
    else:
        yield _note("versions", text, "install the same release of both, and restart the agent")


def check_agent_memory(status: AgentStatusResult) -> Iterator[Finding]:
    """Where the agent holds its keys, and whether they could end up in a core file or on a disk."""
    yield _ok("locked memory", f"{status.memory_backend}, {readable_size(status.memory_size)}")
    if status.memory_backend == "mlock" and _has_swap():
        text = "locked memory is not swapped, but hibernating writes it to the swap device"
        yield _note("swap", text, "use encrypted swap, or a kernel with memfd_secret")
    if status.core_dumps:
        yield _wrong("core dumps", "the agent can dump core", "restart it, and see its log")
    else:
        yield _ok("core dumps", "off")


def check_store(status: AgentStatusResult) -> Iterator[Finding]:
    """Whether the store is there and can be used."""
    if status.problem is not None:
        yield _wrong("store", status.problem, "see the agent's log")
    elif status.state == "uninitialised":
        yield _note("store", "there is none yet", "create it: `keyholt init`")
    else:
        secrets = "" if status.store_secrets is None else f", {counted(status.store_secrets, 'secret')}"
        yield _ok("store", f"{status.store_path}{secrets}")
    if status.state == "locked":
        yield _note("state", "locked", "unlock it: `keyholt unlock`")
    elif status.state == "unlocked":
        yield _ok("state", "unlocked")


def check_directory(store_path: str) -> Iterator[Finding]:
    """Whose the store's directory is, and who may look into it. Nothing is said where this user may not."""
    directory = Path(store_path).parent
    try:
        status = directory.stat()
    except OSError:
        return
    mode = stat.S_IMODE(status.st_mode)
    about = f"{directory}, owned by {_user(status.st_uid)}, mode {mode:04o}"
    if mode & OTHERS:
        yield _wrong("directory", f"{about}: open to others", f"chmod 0700 {directory}")
    else:
        yield _ok("directory", about)


def check_lock_limit() -> Iterator[Finding]:
    """How much memory an agent started from here could lock."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY:
        yield _ok("memlock limit", "none")
    elif limit < LEAST_LOCKED and os.geteuid() != 0:
        remedy = "raise it with `ulimit -l`, /etc/security/limits.conf, or LimitMEMLOCK= in the unit"
        yield _wrong(
            "memlock limit", f"{readable_size(limit)}: an agent started here would refuse to run", remedy
        )
    else:
        yield _ok("memlock limit", readable_size(limit))


def check_memfd_secret() -> Iterator[Finding]:
    """Whether this kernel gives memory that even root cannot read (memfd_secret(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if descriptor >= 0:
        os.close(descriptor)
        yield _ok("memfd_secret", "available")
        return
    reason = errno.errorcode.get(ctypes.get_errno(), "unknown error")
    remedy = "boot with secretmem.enable=1, or allow the system call in the container"
    yield _note("memfd_secret", f"not available ({reason}); the agent uses mlock instead", remedy)


def _has_swap() -> bool:
    try:
        return len(Path("/proc/swaps").read_text("utf-8").splitlines()) > 1
    except OSError:
        return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
