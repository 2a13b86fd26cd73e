"""`run --mask`: no value is seen in what a command prints, and the command is none the wiser."""

from __future__ import annotations

import base64
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import keyholt
from keyholt.cli.supervising import end_as
from tests.client.conftest import RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

VALUE = "canary-8844/+x"
A = {"A": "keyholt://mask/a"}


@pytest.fixture(autouse=True)
def secrets(agent: RunningAgent) -> None:
    """The secrets that these tests refer to."""
    with keyholt.connect(agent.address) as client:
        if not client.list("mask/"):
            client.put("mask/a", VALUE)
            client.put("mask/short", "abc")
            client.put("mask/nul", b"abcd\0")


def on_terminal(agent: RunningAgent, *words: str) -> Terminal:
    """`keyholt run --mask` on a terminal."""
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address, **A}
    return Terminal([KEYHOLT, "run", "--mask", "--", *words], env)


def test_values_do_not_get_through_pipes(agent: RunningAgent) -> None:
    """Neither on standard output nor on standard error, whole, in pieces or in base64; all else does."""
    script = (
        'echo "1 $A."; printf %s "${A%????}"; sleep 0.1; echo "${A#??????????}"; printf %s "u:$A" | base64'
    )
    ran = agent.cli("run", "--mask", "--", "sh", "-c", f"{script}; echo $A >&2; exit 7", env=A)
    assert (ran.status, ran.err) == (7, "<masked>\n")
    assert ran.out.startswith(b"1 <masked>.\n<masked>\n")
    assert base64.b64encode(VALUE.encode())[4:10] not in ran.out


def test_the_command_has_the_value_and_standard_input(agent: RunningAgent) -> None:
    """What it is given is what it would be given without."""
    script = f'test "$A" = "{VALUE}" && cat'
    assert agent.cli("run", "--mask", "--", "sh", "-c", script, env=A, stdin=b"in\0").out == b"in\0"


def test_one_file_for_both_outputs_keeps_their_order(agent: RunningAgent, tmp_path: Path) -> None:
    """As with a log that both are sent to."""
    log = tmp_path / "log"
    with log.open("wb") as stream:
        subprocess.run(
            [
                KEYHOLT,
                "run",
                "--mask",
                "--",
                "sh",
                "-c",
                "for i in 1 2 3; do echo o$i; echo e$i $A >&2; done",
            ],
            env={**environment(), "KEYHOLT_ADDRESS": agent.address, **A},
            stdout=stream,
            stderr=stream,
            check=True,
        )
    assert log.read_text() == "".join(f"o{i}\ne{i} <masked>\n" for i in (1, 2, 3))


def test_what_is_not_masked_is_said(agent: RunningAgent) -> None:
    """A value of three bytes is named before the command starts; one that no variable can have is refused."""
    ran = agent.cli("run", "--mask", "--", "sh", "-c", "echo $S", env={"S": "keyholt://mask/short"})
    assert (ran.status, ran.out) == (0, b"abc\n")
    assert ran.err == "keyholt: the value of S is not masked: it has fewer than 4 bytes\n"
    ran = agent.cli("run", "--mask", "--", "echo", "no", env={"N": "keyholt://mask/nul"})
    assert (ran.status, ran.out, "NUL" in ran.err) == (1, b"", True)


def test_statuses_and_signals_are_as_without(agent: RunningAgent) -> None:
    """No such command is 127; a signal to the command ends us, and a signal to us ends the command."""
    assert agent.cli("run", "--mask", "--", "no-such-command-anywhere").status == 127
    assert agent.cli("run", "--mask", "--", "sh", "-c", "kill -KILL $$").status == -signal.SIGKILL
    script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [KEYHOLT, "run", "--mask", "--", "sh", "-c", script], env=environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.read() == b"got it\n"
        assert process.wait() == 3


def test_a_reader_that_has_seen_enough_ends_the_command(agent: RunningAgent) -> None:
    """A closed pipe is one for the command too."""
    with subprocess.Popen(
        [KEYHOLT, "run", "--mask", "--", "yes"], env=environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == -signal.SIGPIPE


def test_values_do_not_get_onto_a_terminal(agent: RunningAgent) -> None:
    """The command sees a terminal at all three places, of the size of ours, and what it writes is masked; so
    is what is typed and echoed. A prompt is there before anything is typed.
    """
    script = (
        "test -t 0 && test -t 1 && test -t 2 && echo $A. > /dev/tty; "
        "stty size; printf 'Name: '; read N; exit 5"
    )
    with on_terminal(agent, "sh", "-c", script) as screen:
        screen.wait_for("<masked>.\r\n")
        screen.wait_for("0 0\r\n")
        screen.wait_for("Name: ")
        screen.type(f"-{VALUE}\r")
        assert screen.end() == 5
        assert VALUE not in screen.shown.decode()
        assert b"Name: -<masked>" in screen.shown


def test_a_letter_that_a_value_begins_with_is_echoed(agent: RunningAgent) -> None:
    """It is seen before the next one is typed."""
    with on_terminal(agent, "sh", "-c", "printf 'Name: '; read N; echo \"$N\"") as screen:
        screen.wait_for("Name: ")
        screen.type("c")
        screen.wait_for("Name: c")
        screen.type("ba\r")
        assert screen.end() == 0
        assert screen.shown.endswith(b"cba\r\ncba\r\n")


def test_interrupt_and_end_of_file_on_a_terminal(agent: RunningAgent) -> None:
    """Ctrl-C interrupts the command alone, which may go on; Ctrl-D ends its input."""
    script = "trap 'echo interrupted' INT; echo ready; cat; echo over"
    with on_terminal(agent, "sh", "-c", script) as screen:
        screen.wait_for("ready")
        screen.type("there\r")
        screen.wait_for("there\r\nthere")
        screen.type("\x03")
        screen.wait_for("interrupted")
        assert screen.end() == 0
    with on_terminal(agent, "cat") as screen:
        screen.type("x\r")
        screen.wait_for("x\r\nx\r\n")
        screen.type("\x04")
        assert screen.end() == 0
    with on_terminal(agent, "sh", "-c", "echo ready; exec sleep 30") as screen:
        screen.wait_for("ready")
        screen.type("\x03")
        assert screen.end() == -signal.SIGINT


def test_the_size_of_the_terminal_follows(agent: RunningAgent) -> None:
    """The command hears of a new size, and sees it."""
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done"
    with on_terminal(agent, "sh", "-c", script) as screen:
        screen.wait_for("ready")
        screen.resize(31, 97)
        screen.wait_for("31 97")
        assert screen.end() == 0


def test_stopped_and_continued_from_a_shell(agent: RunningAgent) -> None:
    """Ctrl-Z gives the shell its terminal back; `fg` continues the command, which gets what is typed."""
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address, **A, "PS1": "$ "}
    with Terminal(["bash", "--norc", "--noprofile", "-i"], env) as screen:
        screen.wait_for("$ ")
        screen.type(f'{KEYHOLT} run --mask -- sh -c \'echo rea""dy; cat; echo o""ver\'\r')
        screen.wait_for("ready")
        screen.type("there\r")
        screen.wait_for("there\r\nthere")  # a shell that is just starting a command stops when that has begun
        screen.type("\x1a")
        place = screen.wait_for("Stopped")
        screen.type("echo back-$((40 + 2))\r")
        place = screen.wait_for("back-42", after=place)
        screen.type("fg\r")
        place = screen.wait_for("cat; echo", after=place)
        screen.type("typed\r")
        place = screen.wait_for("typed\r\ntyped", after=place)
        screen.type("\x04")
        place = screen.wait_for("over", after=place)
        screen.wait_for("$ ", after=place)
        screen.type("exit\r")
        assert screen.end() == 0


def test_much_typed_while_nobody_reads(agent: RunningAgent) -> None:
    """A paste that is larger than a terminal's queue does not keep output back for ever."""
    with on_terminal(agent, "sh", "-c", "stty raw -echo; echo ready; head -c 30000 | wc -c") as screen:
        screen.wait_for("ready")
        screen.type("x" * 30000)
        screen.wait_for("30000")
        assert screen.end() == 0


def test_with_only_an_output_on_a_terminal(agent: RunningAgent) -> None:
    """In a pipeline the command stays in our process group, its output sees a terminal and is masked."""
    words = f"echo in | {KEYHOLT} run --mask -- sh -c 'test -t 1 && cat && echo $A. && exit 4'"
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address, **A}
    with Terminal(["sh", "-c", words], env) as screen:
        assert screen.end() == 4
        assert screen.shown == b"in\r\n<masked>.\r\n"
    words = f"{KEYHOLT} run --mask -- sh -c 'echo $A. >&2; sleep 30' | cat"
    with Terminal(["sh", "-c", words], env) as screen:
        screen.wait_for("<masked>.")
        screen.type("\x03")
        assert screen.end() in {-signal.SIGINT, 130}


def test_nothing_is_left_running(agent: RunningAgent) -> None:
    """The monitor of the inner terminal ends with the command."""
    with on_terminal(agent, "sh", "-c", "echo $PPID-; exit 0") as screen:
        assert screen.end() == 0
        monitor = int(screen.shown.split(b"-")[0])
    assert not os.path.exists(f"/proc/{monitor}")


SLOW = """
import os, signal, sys, time
from keyholt.cli.inner_terminal import supervise_on_terminal
from keyholt.cli.supervising import end_as
opened = os.pidfd_open
def slowly(number):
    time.sleep(0.2)
    return opened(number)
os.pidfd_open = slowly
if sys.argv[1] == "dead":
    os.setsid = lambda: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(end_as(supervise_on_terminal(lambda: os.execlp("echo", "echo", "all of it"), [], [])))
"""


def test_a_command_that_ends_at_once_on_a_terminal() -> None:
    """However late we take hold of it, its output is there and its status ours; without a monitor there is
    none.
    """
    with Terminal([sys.executable, "-c", SLOW, "alive"], environment()) as screen:
        assert (screen.end(), screen.shown) == (0, b"all of it\r\n")
    with Terminal([sys.executable, "-c", SLOW, "dead"], environment()) as screen:
        assert (screen.end(), b"no process could be started" in screen.shown) == (1, True)


def test_a_signal_that_does_not_end_us() -> None:
    """As to the first process of a container: the status is that of a shell."""
    assert end_as(signal.SIGWINCH) == 128 + signal.SIGWINCH


def test_nothing_is_left_running_when_we_are_killed(agent: RunningAgent) -> None:
    """The command is hung up on, as when a window is closed; our terminal is as it was."""
    script = "trap 'exit 0' HUP; echo $PPID-$$-; for i in $(seq 300); do sleep 0.1; done"
    env = {**environment(), "KEYHOLT_ADDRESS": agent.address, **A}
    with Terminal(["sh", "-c", '"$0" run --mask -- sh -c "$1"; read over', KEYHOLT, script], env) as screen:
        modes = screen.modes()
        screen.wait_for("-\r\n")
        monitor, command = map(int, screen.shown.split(b"-")[:2])
        left = [os.pidfd_open(number) for number in (monitor, command)]
        assert screen.modes() != modes
        ours = Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()[1]
        os.kill(int(ours), signal.SIGKILL)
        for process in left:
            assert select.select([process], [], [], 10)[0], "it has not ended"
            os.close(process)
        assert screen.modes() == modes
