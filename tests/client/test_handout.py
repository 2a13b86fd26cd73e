"""The address ``fd:N``: connections taken from an inherited descriptor, by every client."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

import keyholt
from keyholt.cli import sharing
from keyholt.handout import HandOut
from keyholt_agent.main import HAND_OUT_SUFFIX
from keyholt_protocol.errors import (
    AgentUnreachableError,
    DeadlineExceededError,
    DeniedError,
    ResourceExhaustedError,
)
from keyholt_protocol.messages import SecretGetResult
from tests.client.conftest import RunningAgent, command_line, environment
from tests.client.handing_out import descriptor_to, hand_over
from tests.client.scripted import GREETING, Peer, ScriptedAgent
from tests.support.programs import KEYHOLT

CANARY = "canary-6f3d"


@pytest.fixture
def shared(agent: RunningAgent) -> Iterator[socket.socket]:
    """A descriptor to an agent that holds the secret ``fd/a``."""
    with keyholt.connect(agent.address) as client:
        client.put("fd/a", CANARY)
    with descriptor_to(agent.address) as sock:
        yield sock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a descriptor: a program's, and the agent's, which the test plays."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def address_of(sock: socket.socket) -> str:
    """The descriptor as an address."""
    return f"fd:{sock.fileno()}"


def test_every_client_takes_its_connections_there(shared: socket.socket) -> None:
    """Blocking, trio and asyncio, one after the other and at once, over one descriptor."""
    address = address_of(shared)
    assert keyholt.get("fd/a", address=address).text == CANARY
    with keyholt.connect(address) as one, keyholt.connect(address) as other:
        assert [one.get("fd/a").text, other.get("fd/a").text] == [CANARY] * 2

    async def with_trio() -> None:
        async def fetch() -> None:
            assert (await keyholt.trio.get("fd/a", address=address)).text == CANARY

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(fetch)

    async def with_asyncio() -> None:
        async with asyncio.timeout(20):
            secrets = await asyncio.gather(*(keyholt.asyncio.get("fd/a", address=address) for _ in range(20)))
        assert [secret.text for secret in secrets] == [CANARY] * 20

    trio.run(with_trio)
    asyncio.run(with_asyncio())


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


def test_the_descriptor_stays_as_it_was(shared: socket.socket) -> None:
    """It is neither closed nor made non-blocking, and no duplicate of it is left behind."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert keyholt.get("fd/a", address=address_of(shared)).text == CANARY
    assert os.get_blocking(shared.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


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


@pytest.mark.parametrize("word", ["--address", "$KEYHOLT_ADDRESS"])
def test_run_hands_a_descriptor_on(agent: RunningAgent, shared: socket.socket, word: str) -> None:
    """With ``--share-agent`` the command, and what that starts, reach the agent by what they inherited."""
    get = f"{KEYHOLT} get fd/a"
    script = f'echo "$KEYHOLT_ADDRESS $A" && {get} && sh -c "{get}"'
    words = ["run", "--share-agent", "--", "sh", "-c", script]
    if word == "--address":
        ran = command_line("--address", agent.address, *words, env={"A": "keyholt://fd/a"})
    else:
        ran = agent.cli(*words, env={"A": "keyholt://fd/a"})
    assert (ran.status, ran.err) == (0, "")
    first, fetched = ran.out.decode().split("\n")
    assert (first.startswith("fd:"), first.endswith(f" {CANARY}"), fetched) == (True, True, CANARY * 2)


def test_the_agent_and_its_clients_agree_where_that_is() -> None:
    """The two sides, which import nothing of each other, append the same to the socket's path."""
    assert sharing.HAND_OUT_SUFFIX == HAND_OUT_SUFFIX


def test_run_passes_an_inherited_descriptor_on(shared: socket.socket) -> None:
    """Where the agent itself is reached by a descriptor, the command gets the same one."""
    env = {"KEYHOLT_ADDRESS": address_of(shared)}
    ran = command_line(
        "run", "--share-agent", "--", "sh", "-c", "echo $KEYHOLT_ADDRESS",
        env=env, pass_fds=[shared.fileno()],
    )  # fmt: skip
    assert ran.out.decode() == f"{address_of(shared)}\n"


def share_nothing(address: str, *words: str) -> tuple[int, str]:
    """The status and the error of a `run --share-agent` whose command is not started."""
    ran = command_line("--address", address, "run", "--share-agent", *words, "--", "echo", "started")
    assert ran.out == b""
    return ran.status, ran.err


def greet_as_one_that_hands_out(peer: Peer) -> None:
    """Answer the greeting as an agent with a second socket does."""
    hello, _ = peer.request()
    peer.answer(hello, replace(GREETING, features=("hand-out",)))


def test_run_says_when_nothing_can_be_shared(tmp_path: Path) -> None:
    """Without an agent, or a descriptor, it is status 6, and the command is not started."""
    status, said = share_nothing(str(tmp_path / "s"))
    assert (status, "there is no socket at" in said) == (6, True)
    status, said = share_nothing("fd:71")
    assert (status, "is not open" in said) == (6, True)
    with ScriptedAgent(tmp_path / "s", greet_as_one_that_hands_out) as agent:
        status, said = share_nothing(agent.address)
        assert (status, f"and not at {agent.address}.fds (No such file or directory)" in said) == (6, True)


def test_run_shares_no_agent_that_does_not_serve_this_user(tmp_path: Path) -> None:
    """Its refusal comes before the command: denied, status 5, as of every other command."""

    def refuse(peer: Peer) -> None:
        peer.fail(None, DeniedError("this agent does not serve uid 7"))

    with ScriptedAgent(tmp_path / "s", refuse) as agent:
        status, said = share_nothing(agent.address)
        assert (status, said) == (5, "keyholt: this agent does not serve uid 7\n")


def test_run_shares_no_agent_that_does_not_answer(tmp_path: Path) -> None:
    """One that is silent at its socket, or hands out nothing, is given up after ``--timeout``: status 6."""

    def silent(peer: Peer) -> None:
        peer.request()
        peer.request()

    with ScriptedAgent(tmp_path / "s", silent, greet_as_one_that_hands_out) as agent:
        status, said = share_nothing(agent.address, "--timeout", "1")
        assert (status, "accepted the connection and does not answer" in said) == (6, True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second:
            second.bind(f"{agent.address}.fds")
            second.listen()
            status, said = share_nothing(agent.address, "--timeout", "1")
    assert (status, "accepts no connection within 1 seconds" in said) == (6, True)


def test_run_says_how_a_service_manager_passes_the_second_socket_on(tmp_path: Path) -> None:
    """An agent that was given one socket by systemd cannot be shared; the line of the unit is named."""
    with ScriptedAgent(tmp_path / "s", Peer.greet) as agent:
        status, said = share_nothing(agent.address)
    assert status == 1
    assert said.endswith(f"; add ListenSequentialPacket={agent.address}.fds to its socket unit\n")


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


def expect(message: str) -> pytest.RaisesExc[AgentUnreachableError]:
    """The error that a client must give."""
    return pytest.raises(AgentUnreachableError, match=message)


def test_each_wrong_descriptor_has_its_sentence(tmp_path: Path) -> None:
    """One that is not open, no socket, a socket of another kind, and one that is connected to nobody."""
    with expect("the descriptor 71 is not open in this program; whoever starts it"):
        keyholt.connect("fd:71")
    with (
        open(tmp_path / "file", "wb") as file,
        expect("is no SEQPACKET socket connected to an agent; pass on"),
    ):
        keyholt.connect(f"fd:{file.fileno()}")
    stream, other = socket.socketpair()
    with stream, other, expect("is no SEQPACKET socket"):
        keyholt.connect(address_of(stream))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as alone, expect("is no SEQPACKET socket"):
        keyholt.connect(address_of(alone))
    for words in (("get", "a"), ("status",)):
        ran = command_line("--address", "fd:71", *words)
        assert (ran.status, "the descriptor 71 is not open" in ran.err) == (6, True)


def test_an_agent_that_has_gone_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """Gone before the asking, and gone between the asking and the answer."""
    ours, theirs = pair

    def ask_and_go() -> None:
        theirs.recv(16)
        theirs.close()

    thread = threading.Thread(target=ask_and_go)
    thread.start()
    for _ in range(2):
        with expect("the agent at the other end of the descriptor .* has gone; start it again"):
            keyholt.connect(address_of(ours))
    thread.join()


def test_a_message_without_a_connection_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """What is no connection is refused: nothing at all, or a descriptor that is no socket."""
    ours, theirs = pair
    theirs.send(b"x")
    with expect("a message without a connection"):
        keyholt.connect(address_of(ours))
    with open("/dev/null", "rb") as file:
        socket.send_fds(theirs, [b"x"], [file.fileno()])
    with expect("is no SEQPACKET socket connected to an agent"):
        keyholt.connect(address_of(ours))


def open_pipe() -> int:
    """A descriptor that is no socket."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading


@pytest.mark.parametrize(
    "make",
    [
        open_pipe,
        lambda: socket.socket(socket.AF_INET).detach(),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach(),
    ],
    ids=["pipe", "internet", "datagrams", "packets"],
)
def test_only_a_unix_stream_is_a_connection(
    pair: tuple[socket.socket, socket.socket], make: Callable[[], int]
) -> None:
    """A descriptor of another kind is refused, and not left open."""
    ours, theirs = pair
    sent = make()
    socket.send_fds(theirs, [b"x"], [sent])
    os.close(sent)
    before = os.listdir("/proc/self/fd")
    with expect("is no SEQPACKET socket connected to an agent"):
        keyholt.connect(address_of(ours))
    assert os.listdir("/proc/self/fd") == before


def test_one_message_carries_one_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    """Several in one message are refused, and none is left open."""
    ours, theirs = pair
    connections = [*socket.socketpair(), *socket.socketpair()]
    socket.send_fds(theirs, [b"x"], [connection.fileno() for connection in connections])
    for connection in connections:
        connection.close()
    before = os.listdir("/proc/self/fd")
    with expect("a message without a connection"):
        keyholt.connect(address_of(ours))
    assert os.listdir("/proc/self/fd") == before


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


def test_no_room_for_a_descriptor_is_named(pair: tuple[socket.socket, socket.socket]) -> None:
    """A program at its limit of open files is told so, and what it could not take is not left open."""
    ours, theirs = pair
    connection, other = socket.socketpair()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connection, other:
        hand_over(theirs, connection)
        hand_out = HandOut(ours.fileno())
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            with pytest.raises(Exception, match="too many files open"):
                hand_out.take()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            hand_out.close()
        connection.close()
        assert other.recv(1) == b""


def fill(sock: socket.socket) -> None:
    """Send until nothing more is taken."""
    for _ in range(100_000):
        try:
            sock.send(b"x", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
    pytest.fail("the socket takes everything")


def test_a_silent_agent_has_a_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    """One that takes no question, and one that answers none, fail after the time given."""
    ours, theirs = pair
    with expect("accepts no connection within 0.05 seconds"):
        keyholt.connect(address_of(ours), timeout=0.05)
    fill(ours)
    with expect("accepts no connection within 0.05 seconds"):
        keyholt.connect(address_of(ours), timeout=0.05)
    assert theirs.recv(16) == b"\0"


def serve(connection: socket.socket) -> None:
    """Answer the greeting and one fetch."""
    connection.settimeout(20)
    peer = Peer(connection)
    peer.greet()
    request, _ = peer.request()
    peer.answer(request, SecretGetResult(version=1, created=1), CANARY.encode())


@pytest.mark.parametrize("client", ["blocking", "trio", "asyncio", "get"])
def test_what_another_left_behind_is_passed_over(
    pair: tuple[socket.socket, socket.socket], client: str
) -> None:
    """Connections that were asked for by a program that died, and that the agent has closed since, with a
    last word or without, are given up; one asking is enough to get the one behind them.
    """
    ours, theirs = pair
    words = (
        DeadlineExceededError("no greeting within 30 seconds"),
        None,
        ResourceExhaustedError("too many connections"),
        DeniedError("not served"),
    )
    for word in words:
        mine, stale = socket.socketpair()
        with mine, stale:
            hand_over(theirs, stale)
            if word is not None:
                Peer(mine).fail(None, word)
    asked: list[bytes] = []

    def hand_one() -> None:
        asked.append(theirs.recv(16))
        mine, fresh = socket.socketpair()
        with mine:
            with fresh:
                hand_over(theirs, fresh)
            serve(mine)

    thread = threading.Thread(target=hand_one)
    thread.start()
    try:
        assert fetch(client, ours) == CANARY
    finally:
        thread.join()
    with pytest.raises(BlockingIOError):
        theirs.recv(16, socket.MSG_DONTWAIT)
    assert asked == [b"\0"]


def fetch(client: str, sock: socket.socket) -> str:
    """The secret ``a``, by one of the clients."""
    address = address_of(sock)
    if client == "trio":
        return trio.run(lambda: keyholt.trio.get("a", address=address)).text
    if client == "asyncio":
        return asyncio.run(keyholt.asyncio.get("a", address=address)).text
    if client == "get":
        return command_line("--address", address, "get", "a", pass_fds=[sock.fileno()]).out.decode()
    return keyholt.get("a", address=address).text


@pytest.mark.parametrize("client", ["blocking", "trio", "asyncio"])
def test_a_refusal_on_a_fresh_connection_is_the_answer(
    pair: tuple[socket.socket, socket.socket], client: str
) -> None:
    """What the agent says of the connection that it hands out reaches the caller: another one might follow,
    and is not waited for long.
    """
    ours, theirs = pair
    mine, fresh = socket.socketpair()
    with mine, fresh:
        hand_over(theirs, fresh)
        Peer(mine).fail(None, ResourceExhaustedError("too many connections"))
    with pytest.raises(ResourceExhaustedError, match="too many connections"):
        fetch(client, ours)
