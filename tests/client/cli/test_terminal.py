"""What happens on a terminal only: prompts without echo, the newline after a value, the progress bar."""

from __future__ import annotations

import signal
import sys
import termios
from pathlib import Path

import pytest

import keyholt
from keyholt.cli import asking
from keyholt.cli import terminal as terminal_module
from tests.client.conftest import PASSPHRASE, RunningAgent, environment
from tests.client.terminal import Terminal
from tests.support.programs import KEYHOLT

ENTER, INTERRUPT, END, SUSPEND = "\r", "\x03", "\x04", "\x1a"
LONG = "0123456789" * 500
"""More than the kernel keeps of a line."""


def terminal(agent: RunningAgent, *words: str) -> Terminal:
    """`keyholt` on a terminal."""
    return Terminal([KEYHOLT, *words], {**environment(), "KEYHOLT_ADDRESS": agent.address})


def put(agent: RunningAgent, path: str, *typed: str, options: tuple[str, ...] = ()) -> tuple[int, bytes]:
    """`put` on a terminal with what is typed at each question; gives its status and what was shown."""
    with terminal(agent, "put", path, *options) as screen:
        place = screen.wait_for(f"Value of {path}")
        for number, text in enumerate(typed):
            if number:
                place = screen.wait_for("again: ", after=place)
            screen.type(text)
        return screen.end(), screen.shown


def value_of(agent: RunningAgent, path: str) -> bytes:
    """The newest value."""
    with keyholt.connect(agent.address) as client:
        return client.get(path).bytes


def test_a_passphrase_is_asked_for_twice_and_not_shown(own_agent: RunningAgent) -> None:
    """`init` asks twice, without echo; two that differ are refused and nothing is created."""
    with terminal(own_agent, "init") as screen:
        screen.wait_for("New passphrase: ")
        screen.type("s3same as before\n")
        screen.wait_for("New passphrase again: ")
        screen.type("s3other than before\n")
        assert screen.end() == 2
        assert b"differ" in screen.shown
    with terminal(own_agent, "init") as screen:
        screen.wait_for("New passphrase: ")
        screen.type(PASSPHRASE.decode() + "\n")
        screen.wait_for("again: ")
        screen.type(PASSPHRASE.decode() + "\n")
        assert screen.end() == 0
        assert PASSPHRASE not in screen.shown
        assert b"created the store" in screen.shown
    own_agent.cli("lock")
    with terminal(own_agent, "unlock") as screen:
        screen.wait_for("Passphrase: ")
        screen.type(PASSPHRASE.decode() + "\n")
        assert screen.end() == 0
    with keyholt.connect(own_agent.address) as client:
        assert client.status().state == "unlocked"


def test_a_value_is_typed_twice_unseen_and_whole(agent: RunningAgent) -> None:
    """However long a line was pasted, all of it is stored, without its newline, and none of it is shown."""
    status, shown = put(agent, "tty/long", LONG + ENTER, LONG + ENTER)
    assert (status, b"version 1" in shown, LONG[:10].encode() in shown) == (0, True, False)
    assert value_of(agent, "tty/long") == LONG.encode()


def test_two_values_that_differ_are_refused(agent: RunningAgent) -> None:
    """Nothing is written, whether they differ in a letter or one line was pasted too many."""
    assert put(agent, "tty/differ", "one" + ENTER, "two" + ENTER)[0] == 2
    status, shown = put(agent, "tty/differ", f"one{ENTER}one{ENTER}three{ENTER}")
    assert (status, b"--multiline" in shown) == (2, True)
    assert agent.cli("get", "tty/differ").status == 3


def test_many_lines_up_to_the_end(agent: RunningAgent) -> None:
    """With --multiline a text is stored as it was pasted, line ends and all, and its size is told."""
    text = f"{LONG}\n\nlast, with \x11\x13 and \x1b[A\n"
    status, shown = put(agent, "tty/many", text + END, options=("--multiline",))
    assert (status, f"(3 lines, {len(text)} bytes)".encode() in shown, b"last" in shown) == (0, True, False)
    assert value_of(agent, "tty/many") == text.encode()
    assert put(agent, "tty/many", "no newline" + END, options=("-m",))[0] == 0
    assert value_of(agent, "tty/many") == b"no newline"


def test_a_text_with_an_end_in_it_is_refused(agent: RunningAgent) -> None:
    """What stands behind a Ctrl-D that was pasted is not left out unsaid: nothing is written."""
    status, shown = put(agent, "tty/cut", f"line1{ENTER}li{END}ne2{ENTER}line3{ENTER}", options=("-m",))
    assert (status, b"more was pasted behind a Ctrl-D" in shown) == (2, True)
    assert agent.cli("get", "tty/cut").status == 3


def test_a_text_that_is_too_long_is_refused() -> None:
    """Whoever asks for lines gets no more than they asked for, and none that were cut."""
    program = "from keyholt.cli.terminal import ask_lines; ask_lines('Lines', 4, instead='give a file')"
    for typed, status in (("12345" + END, 1), ("1234" + END, 0)):
        with Terminal([sys.executable, "-c", program], environment()) as screen:
            screen.wait_for("ended by Ctrl-D:")
            screen.type(typed)
            assert screen.end() == status
            assert (b"more than 4 bytes were typed" in screen.shown) == bool(status)


def test_what_was_typed_ahead_confirms_nothing(agent: RunningAgent) -> None:
    """Before something that cannot be taken back, the answer has to come after the question."""
    with keyholt.connect(agent.address) as client:
        client.put("tty/ahead", "kept")
    with terminal(agent, "purge", "tty/ahead") as screen:
        screen.type("tty/ahead\n")
        screen.wait_for("to go on: ")
        screen.type("no\n")
        assert screen.end() == 2
    assert value_of(agent, "tty/ahead") == b"kept"


def test_a_terminal_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is gone: an error that is told, and no defect. `/dev/null` has no modes either."""
    for module in (asking, terminal_module):
        monkeypatch.setattr(module, "TERMINAL", "/dev/null")
    with pytest.raises(OSError, match="the terminal cannot be used"):
        terminal_module.ask("Value", 1, instead="")
    with pytest.raises(OSError, match="ioctl"):
        asking.require_typed("this erases all", "yes", "--yes")


def test_keys_take_back_what_was_typed(agent: RunningAgent) -> None:
    """Backspace a character, Ctrl-W a word, Ctrl-U all."""
    assert put(agent, "tty/keys", f"wrong\x15two word\x17wéö\x7fx{ENTER}", f"two wéx{ENTER}")[0] == 0
    assert value_of(agent, "tty/keys") == "two wéx".encode()


def test_a_file_that_is_a_terminal_is_asked(agent: RunningAgent) -> None:
    """A terminal named as a file is not read line by line either."""
    assert put(agent, "tty/named", LONG + ENTER, LONG + ENTER, options=("--file", "/dev/tty"))[0] == 0
    assert value_of(agent, "tty/named") == LONG.encode()
    with terminal(agent, "unlock", "--passphrase-fd", "0") as screen:
        screen.wait_for("Passphrase: ")
        screen.type(PASSPHRASE.decode() + ENTER)
        assert screen.end() == 0
        assert PASSPHRASE not in screen.shown


def typed_file(agent: RunningAgent, text: str, *words: str) -> str:
    """What is shown after a text was pasted for a file."""
    with terminal(agent, *words) as screen:
        place = screen.wait_for("ended by Ctrl-D:")
        screen.type(text + END)
        assert screen.end() == 0
        return screen.shown[place:].decode()


def test_files_that_are_typed(agent: RunningAgent) -> None:
    """A file for `import` and a text for `inject` are whole, too, where they come from the terminal."""
    shown = typed_file(agent, f"LONG={LONG}\nTWO=2\n", "import", "-", "tty/typed")
    assert LONG not in shown
    assert value_of(agent, "tty/typed/LONG") == LONG.encode()
    shown = typed_file(agent, f"{LONG}<keyholt://tty/typed/TWO>\n", "inject")
    assert shown.endswith(f"{LONG}<2>\r\n")


@pytest.mark.parametrize(
    "words,question",
    [
        (("unlock",), "Passphrase: "),
        (("put", "tty/none"), "tty/none: "),
        (("put", "tty/none", "-m"), "Ctrl-D:"),
        (("put", "tty/none", "--allow-empty"), "tty/none: "),
    ],
)
def test_ctrl_d_cancels(agent: RunningAgent, words: tuple[str, ...], question: str) -> None:
    """It is neither an empty passphrase nor an empty value: it ends with 1, and says so."""
    with terminal(agent, *words) as screen:
        screen.wait_for(question)
        before = screen.modes()
        assert not before[3] & termios.ECHO
        screen.type(END)
        assert screen.end() == 1
        assert b"cancelled; nothing was changed" in screen.shown
        assert screen.modes()[3] & termios.ECHO
    assert agent.cli("get", "tty/none").status == 3


@pytest.mark.parametrize("how", [INTERRUPT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_terminal_is_given_back(agent: RunningAgent, how: str | signal.Signals) -> None:
    """Ctrl-C and other signals end it as signals do, without a traceback; the terminal is as it was."""
    with terminal(agent, "unlock") as screen:
        before = screen.modes()
        assert before[3] & termios.ECHO
        screen.wait_for("Passphrase: ")
        screen.type("half of a passphr")
        if isinstance(how, str):
            screen.type(how)
        else:
            screen.send(how)
        assert screen.end() == -(signal.SIGINT if isinstance(how, str) else how)
        assert b"Traceback" not in screen.shown
        assert screen.modes() == before


def test_a_stop_and_back(agent: RunningAgent) -> None:
    """At Ctrl-Z a shell that restores nothing finds its terminal as it was; after `fg` the question is asked
    again, what was typed before does not count, and typing is hidden.
    """
    with Terminal(["dash", "-i"], {**environment(), "KEYHOLT_ADDRESS": agent.address, "PS1": "$ "}) as screen:
        screen.wait_for("$ ")
        before = screen.modes()
        screen.type(f"{KEYHOLT} unlock\n")
        place = screen.wait_for("Passphrase: ")
        screen.type("wrong beginning" + SUSPEND)
        place = screen.wait_for("$ ", after=place)
        assert before[3] & termios.ECHO
        assert screen.modes() == before
        screen.type("fg\n")
        place = screen.wait_for("Passphrase: ", after=place)
        assert not screen.modes()[3] & termios.ECHO
        screen.type(PASSPHRASE.decode() + ENTER)
        place = screen.wait_for("unlocked with", after=place)
        assert PASSPHRASE not in screen.shown
        assert b"wrong beginning" not in screen.shown


def test_a_stop_and_an_end(agent: RunningAgent) -> None:
    """A prompt that is stopped ends where it is told to; it does not ask for the terminal first, which a
    program in the background does not get.
    """
    with Terminal(["dash", "-i"], {**environment(), "KEYHOLT_ADDRESS": agent.address, "PS1": "$ "}) as screen:
        screen.wait_for("$ ")
        screen.type(f"{KEYHOLT} unlock\n")
        place = screen.wait_for("Passphrase: ")
        screen.type(SUSPEND)
        place = screen.wait_for("$ ", after=place)
        screen.type("kill %1; kill -CONT %1\n")
        for _ in range(200):  # the shell tells of it before a prompt
            place = screen.wait_for("$ ", after=place)
            if b"Terminated" in screen.shown:
                break
            screen.type("sleep 0.05\n")
        assert b"Terminated" in screen.shown, screen.shown


def test_a_stop_in_the_background_and_back(agent: RunningAgent) -> None:
    """`bg` stops it again, as any program that wants the terminal; after `fg` it asks."""
    with Terminal(["dash", "-i"], {**environment(), "KEYHOLT_ADDRESS": agent.address, "PS1": "$ "}) as screen:
        screen.wait_for("$ ")
        screen.type(f"{KEYHOLT} unlock\n")
        place = screen.wait_for("Passphrase: ")
        screen.type(SUSPEND)
        place = screen.wait_for("$ ", after=place)
        screen.type("bg; wait %1; echo stopped=$?\n")
        place = screen.wait_for("stopped=1", after=place)
        screen.type("fg\n")
        place = screen.wait_for("Passphrase: ", after=place)
        screen.type(PASSPHRASE.decode() + ENTER)
        screen.wait_for("unlocked with", after=place)


def test_what_was_typed_before_the_question_is_dropped(agent: RunningAgent) -> None:
    """It was echoed, and may have been cut; whoever typed it is told."""
    with terminal(agent, "unlock") as screen:
        screen.type("ahead\n")
        screen.wait_for("is dropped")
        screen.wait_for("Passphrase: ")
        screen.type(PASSPHRASE.decode() + ENTER)
        assert screen.end() == 0


def test_a_value_gets_a_newline_on_a_terminal(agent: RunningAgent) -> None:
    """On a terminal a newline follows, unless the value has one or -n says not to."""
    with keyholt.connect(agent.address) as client:
        client.put("tty/a", "value")
        client.put("tty/b", "value\n")
    for words, shown in (
        (["get", "tty/a"], b"value\r\n"),
        (["get", "-n", "tty/a"], b"value"),
        (["get", "tty/a", "-n"], b"value"),
        (["get", "tty/b"], b"value\r\n"),
        (["get", "tty/a", "--version", "1"], b"value\r\n"),
        (["get", "--version", "1", "-n", "tty/a"], b"value"),
    ):
        with terminal(agent, *words) as screen:
            assert screen.end() == 0
            assert screen.shown == shown


def test_import_draws_a_bar(agent: RunningAgent, tmp_path: Path) -> None:
    """On a terminal an import shows how far it is."""
    file = tmp_path / ".env"
    file.write_text("".join(f"V{number}=x\n" for number in range(40)))
    with terminal(agent, "import", str(file), "bar") as screen:
        assert screen.end() == 0
        assert b"40/40" in screen.shown
        assert b"imported 40 secrets" in screen.shown


def test_an_interrupt_ends_what_the_shell_was_at(agent: RunningAgent) -> None:
    """Ctrl-C means the whole loop: the shell has to see that the program died of it."""
    script = f"for one in 1 2; do {KEYHOLT} put loop; echo after $one; done"
    with Terminal(["bash", "-c", script], {**environment(), "KEYHOLT_ADDRESS": agent.address}) as screen:
        screen.wait_for("Value of loop")
        screen.type("\x03")
        assert screen.end() == -signal.SIGINT
        assert b"after" not in screen.shown
