"""Who serves a client: every client asks before it sends a byte, and sends none to whom it does not trust."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

import keyholt
from keyholt.address import SYSTEM_SOCKET, Address, parse
from keyholt.cli import sharing
from keyholt.cli.fast import fetch
from keyholt.cli.sharing import share
from keyholt.handout import HandOut
from keyholt.peer import UNMAPPED, read_server, require_trusted
from keyholt_protocol.errors import AgentUntrustedError
from keyholt_protocol.messages import SessionHelloResult
from tests.client.conftest import RunningAgent, command_line, environment
from tests.client.handing_out import descriptor_to, hand_over
from tests.support.agent_process import PATIENCE
from tests.support.other_server import STRANGER, OtherServer, other_server, reachable
from tests.support.users import need_other_uids, need_readable_interpreter

LIMIT = 20.0


def blocking(address: str) -> None:
    """The blocking client."""
    keyholt.get("a", address=address, timeout=LIMIT)


def with_trio(address: str) -> None:
    """The client for trio."""

    async def work() -> None:
        await keyholt.trio.get("a", address=address, timeout=LIMIT)

    trio.run(work)


def with_asyncio(address: str) -> None:
    """The client for asyncio."""
    asyncio.run(keyholt.asyncio.get("a", address=address, timeout=LIMIT))


def fast_path(address: str) -> None:
    """What `keyholt get` tries first."""
    fetch(parse(address), [("a", None)])


CLIENTS = [blocking, with_trio, with_asyncio, fast_path]


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A directory that everybody may write to, and sticky, as /tmp is."""
    folder = reachable(tmp_path) / "open"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def stranger(open_folder: Path) -> Iterator[OtherServer]:
    """A server of another user, who was there first."""
    with other_server(open_folder / "agent.sock") as server:
        yield server


@pytest.mark.parametrize("client", CLIENTS)
def test_another_user_is_sent_nothing(client: Callable[[str], None], stranger: OtherServer) -> None:
    """A server of a user who is neither root nor oneself: refused by name, with what to do."""
    with pytest.raises(AgentUntrustedError, match=rf"runs as uid {STRANGER}, not as root") as refusal:
        client(stranger.path)
    assert f"write the address as unix:{stranger.path}?uid={STRANGER}" in str(refusal.value)
    assert stranger.received() == b""


@pytest.mark.parametrize("client", CLIENTS)
def test_the_address_says_who_is_expected(client: Callable[[str], None], stranger: OtherServer) -> None:
    """With its uid in the address the same server is spoken to; where it asks for root's, it is not."""
    with pytest.raises(AgentUntrustedError, match="not as the uid that the address asks for"):
        client(f"unix:{stranger.path}?uid=0")
    assert stranger.received() == b""
    with suppress(keyholt.KeyholtError):
        keyholt.connect(f"unix:{stranger.path}?uid={STRANGER}", timeout=0.1)
    assert b"session.hello" in stranger.received()


def test_an_address_that_asks_for_another_refuses_ones_own(agent: RunningAgent) -> None:
    """What the address says goes before what is trusted without it."""
    with pytest.raises(AgentUntrustedError):
        keyholt.connect(f"unix:{agent.address}?uid={STRANGER}")
    keyholt.connect(f"unix:{agent.address}?uid={os.geteuid()}").close()


@pytest.mark.parametrize(
    "words",
    [
        ("get", "a"),
        ("run", "--", "true"),
        ("unlock", "--passphrase-fd", "0"),
        ("init", "--passphrase-fd", "0"),
    ],
)
def test_the_command_line_sends_nothing_either(words: tuple[str, ...], stranger: OtherServer) -> None:
    """On its fast path and on the full one; the status is that of an agent that cannot be reached."""
    result = command_line(
        *words, stdin=b"hunter2", env={"KEYHOLT_ADDRESS": stranger.path, "A": "keyholt://a"}
    )
    assert (result.status, result.out) == (6, b"")
    assert f"runs as uid {STRANGER}" in result.err
    assert stranger.received() == b""


def test_a_parent_of_another_user(tmp_path: Path) -> None:
    """Whoever owns a directory above may put another in the place of one's own: refused as well."""
    need_other_uids()
    parent = reachable(tmp_path) / "theirs"
    (parent / "mine").mkdir(parents=True)
    os.chown(parent, STRANGER, STRANGER)
    (parent / "mine").rename(parent / "aside")
    (parent / "mine").mkdir()
    os.chown(parent / "mine", STRANGER, STRANGER)
    with other_server(parent / "mine" / "agent.sock") as server:
        with pytest.raises(AgentUntrustedError):
            keyholt.connect(server.path)
        assert server.received() == b""


def test_the_runtime_directory_of_another_user(tmp_path: Path) -> None:
    """After `su` the variable still names the directory of whom one was: their agent is not one's own."""
    need_other_uids()
    runtime = reachable(tmp_path) / "runtime"
    (runtime / "keyholt").mkdir(parents=True)
    for folder in (runtime, runtime / "keyholt"):
        os.chown(folder, STRANGER, STRANGER)
    with other_server(runtime / "keyholt" / "agent.sock") as server:
        result = command_line(
            "unlock", "--passphrase-fd", "0", stdin=b"x", env={"XDG_RUNTIME_DIR": str(runtime)}
        )
        assert result.status == 6
        assert "XDG_RUNTIME_DIR" in result.err
        assert server.received() == b""


def test_root_s_agent_is_trusted_by_everybody(stranger_s_client: list[str], open_folder: Path) -> None:
    """The control for another uid on this side: root's server is spoken to, a third user's is not."""
    for uid, trusted in ((0, True), (STRANGER, True), (STRANGER + 1, False)):
        path = open_folder / f"{uid}.sock"
        with other_server(path, uid) as server:
            done = subprocess.run(
                [*stranger_s_client, str(path)], capture_output=True, timeout=30, check=False
            )
            assert (b"Untrusted" not in done.stdout, server.received() != b"") == (trusted, trusted)


CONNECT = """
import sys, keyholt
try: keyholt.connect(sys.argv[1], timeout=0.1)
except keyholt.KeyholtError as error: print(type(error).__name__, error)
"""


@pytest.fixture
def stranger_s_client() -> list[str]:
    """The beginning of a command that connects as another user to the address behind it."""
    need_other_uids()
    need_readable_interpreter()
    user = f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"
    return ["setpriv", *user, sys.executable, "-c", CONNECT]


SYSTEM = r"""
set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/keyholt && chown "$1:$1" /run/keyholt
eval "$2"
shift 2
exec "$@"
"""


@pytest.mark.parametrize(
    "owner,change,path,trusted",
    [
        (STRANGER, "", SYSTEM_SOCKET, True),
        (STRANGER, "", "/run/keyholt/other.sock", False),
        (STRANGER, "", "/run//keyholt/agent.sock", False),
        (STRANGER + 1, "", SYSTEM_SOCKET, False),
        (STRANGER, "chmod 1777 /run", SYSTEM_SOCKET, False),
        (STRANGER, "chmod 0775 /run", SYSTEM_SOCKET, False),
        (STRANGER, f"chown {STRANGER} /run", SYSTEM_SOCKET, False),
        (
            STRANGER,
            f"mv /run/keyholt /run/real && ln -s real /run/keyholt && chown -h {STRANGER} /run/keyholt",
            SYSTEM_SOCKET,
            False,
        ),
    ],
)
def test_the_system_s_socket(owner: int, change: str, path: str, trusted: bool) -> None:
    """At exactly /run/keyholt/agent.sock its directory's owner is trusted, if root alone gave that away."""
    need_other_uids()
    program = (
        "import sys; from tests.client.test_peer import *\n"
        f"with other_server('{path}') as server:\n"
        "    with suppress(keyholt.KeyholtError):\n"
        f"        keyholt.connect('{path}', timeout=0.1)\n"
        "    print(server.received() != b'')"
    )
    script = ["unshare", "--mount", "sh", "-c", SYSTEM, "sh", str(owner), change or ":"]
    if owner != STRANGER:  # the server has to be able to make its socket there
        script[-1] = "chmod 0777 /run/keyholt"
    done = subprocess.run(
        [*script, sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{trusted}\n", "")


def test_handed_out_connections_are_asked_too(open_folder: Path) -> None:
    """A descriptor that leads to another user gets no message; one that it is expected of gets it."""
    with other_server(open_folder / "agent.sock.fds", kind=socket.SOCK_SEQPACKET) as server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(server.path)
            for client in CLIENTS:
                with pytest.raises(AgentUntrustedError, match=rf"the address as fd:\d+\?uid={STRANGER}"):
                    client(f"fd:{sock.fileno()}")
            address = f"fd:{sock.fileno()}"
            result = command_line("get", "a", env={"KEYHOLT_ADDRESS": address}, pass_fds=[sock.fileno()])
            assert result.status == 6
        assert server.received() == b""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(server.path)
            with pytest.raises(keyholt.AgentUnreachableError):
                keyholt.connect(f"fd:{sock.fileno()}?uid={STRANGER}", timeout=0.1)
        assert server.received() == b"\0"


def test_a_connection_of_another_user_that_is_handed_out(stranger: OtherServer) -> None:
    """The descriptor's own other end may be trusted, and what comes out of it not: each is asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for client in CLIENTS:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(stranger.path)
                hand_over(theirs, connection)
            with pytest.raises(AgentUntrustedError):
                client(f"fd:{ours.fileno()}")
    assert stranger.received() == b""


def test_handed_out_by_the_agent(agent: RunningAgent) -> None:
    """The kernel names the agent's process, of the descriptor as of a connection that it gave."""
    with keyholt.connect(agent.address) as client:
        pid = client.status().pid
    with descriptor_to(agent.address) as shared:
        hand_out = HandOut(shared.fileno())
        assert hand_out.ask()
        while (sock := hand_out.take()) is None:
            pass
        assert read_server(hand_out.sock) == read_server(sock) == (pid, os.geteuid())
        sock.close()
        hand_out.close()


def test_sharing_an_agent_hands_its_uid_on(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --share-agent` greets nobody unknown, and tells the command whom it may trust."""
    path = open_folder / "agent.sock"
    with other_server(str(path)) as server:
        with pytest.raises(AgentUntrustedError):
            share(parse(str(path)), timeout=PATIENCE)
        assert server.received() == b""
    with other_server(f"{path}.fds", kind=socket.SOCK_SEQPACKET) as server:
        greeted: list[Address] = []

        def greet(address: Address, _: float | None) -> SessionHelloResult:
            greeted.append(address)
            return SessionHelloResult(
                version=1, agent="", max_value=0, max_in_flight=0, features=("hand-out",)
            )

        monkeypatch.setattr(sharing, "_greet", greet)
        with pytest.raises(AgentUntrustedError):
            share(parse(str(path)), timeout=PATIENCE)
        shared = share(parse(f"unix:{path}?uid={STRANGER}"), timeout=PATIENCE)
        assert shared == greeted[-1] == Address("fd", descriptor=shared.descriptor, uid=STRANGER)
        os.close(shared.descriptor)
        assert server.received() == b""


@pytest.mark.parametrize("mapping", [("--map-root-user",), ()])
def test_in_a_user_namespace(mapping: tuple[str, ...], stranger: OtherServer) -> None:
    """A uid that the namespace has no number for is nobody's: trusted only where the address asks for it.

    Without a mapping that goes for the client's own uid too, which reads the same.
    """
    within = ["unshare", "--user", *mapping, sys.executable, "-c", CONNECT]
    refused, asked = (
        subprocess.run([*within, address], env=environment(), capture_output=True, timeout=30, check=True)
        for address in (stranger.path, f"unix:{stranger.path}?uid={UNMAPPED}")
    )
    assert b"AgentUntrustedError" in refused.stdout
    assert b"has no number for" in refused.stdout
    assert b"AgentUntrustedError" not in asked.stdout
    assert b"session.hello" in stranger.received()


def test_ones_own_agent_from_a_user_namespace(agent: RunningAgent) -> None:
    """The control: one's own uid has a number there, if not the same, and the agent is trusted by it."""
    within = ["unshare", "--user", "--map-root-user", sys.executable, "-c", CONNECT]
    done = subprocess.run(
        [*within, agent.address], env=environment(), capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b""


def test_a_socket_that_leads_nowhere() -> None:
    """Nobody is at its other end, so nobody is trusted there."""
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(AgentUntrustedError):
        require_trusted(sock, parse("/nowhere"))


def test_doctor_names_the_server(stranger: OtherServer, agent: RunningAgent) -> None:
    """By uid and process, trusted or not, and who could put another there; it sends no byte to a stranger."""
    report = json.loads(command_line("--json", "--address", stranger.path, "doctor").out)
    found = {finding["subject"]: finding for finding in report["findings"]}
    assert found["server"]["state"] == found["way"]["state"] == found["agent"]["state"] == "wrong"
    assert f"uid {STRANGER}, as process " in found["server"]["text"]
    assert f"unix:{stranger.path}?uid={STRANGER}" in found["server"]["remedy"]
    assert "use a directory below" in found["way"]["remedy"]
    assert stranger.received() == b""
    with keyholt.connect(agent.address) as client:
        pid = client.status().pid
    with descriptor_to(agent.address) as shared:
        for address, descriptors in ((agent.address, ()), (f"fd:{shared.fileno()}", (shared.fileno(),))):
            said = command_line("--address", address, "doctor", pass_fds=descriptors).out.decode()
            assert f"ok     server: run by root, uid {os.geteuid()}, as process {pid}\n" in said
            assert "WRONG" not in said


def test_doctor_on_the_way_to_the_socket(open_folder: Path, tmp_path: Path) -> None:
    """A directory of another user and one that others write to are named, through a link as well."""
    need_other_uids()
    theirs = open_folder / "theirs"
    (theirs / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(theirs / "run")
    os.chown(theirs, STRANGER, STRANGER)
    (theirs / "run").chmod(0o777)
    with other_server(theirs / "run" / "agent.sock", 0):
        path = str(tmp_path / "link" / "agent.sock")
        said = command_line("--address", path, "--timeout", "1", "doctor").out.decode()
    assert f"WRONG  way: {theirs} is {STRANGER}'s, who can" in said
    assert f"WRONG  way: others can write to {theirs}/run, and" in said
    assert "way: others can write to /tmp," not in said
    assert "ok     server: run by root, uid 0" in said
