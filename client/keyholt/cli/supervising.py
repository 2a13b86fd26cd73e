"""Running a command whose output is masked, and being in its place meanwhile: `keyholt run --mask`.

- The command stays in our process group, and the shell stops, continues and interrupts both; unless we are in
  the foreground of a terminal with input and output: then it has one of its own
  (``keyholt.cli.inner_terminal``).
- Signals that are sent to us are passed on. Those that a terminal sends to its whole foreground group the
  command has got already.
- Its exit status is ours; the signal that ended it ends us. We wait until its output has ended, as the reader
  of a pipe does, so that nothing is lost of what it has left running.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from keyholt.cli.masking import wipe
from keyholt.cli.streams import Stream, Streams, copy_size, open_stream, our_outputs

__all__ = ["Become", "become_child", "block_signals", "end_as", "forward_signals", "supervise"]

FORWARDED: Final = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
)
"""What whoever sees our process sends to the command in truth."""

FROM_TERMINAL: Final = 0x80
"""``si_code`` of a signal that the kernel sends by itself (sigaction(2), SI_KERNEL)."""

FAILED_START: Final = 126

AS_IN_SHELLS: Final = 128
"""Added to a signal's number it is the exit status of what that ended."""

Become = Callable[[], NoReturn]


def supervise(become: Become, needles: list[bytearray], values: Sequence[bytearray]) -> int:
    """Run a command; gives its wait status (waitpid(2)).

    Args:
        become: executes the command in the process that it is called in.
        needles: what is masked in its output.
        values: what only the new process needs; they are wiped here.

    Raises:
        OSError: there are no descriptors or processes to be had.
    """
    streams = [open_stream(targets, needles) for targets in our_outputs()]
    before = block_signals()
    child = os.fork()
    if child == 0:
        become_child(become, streams, before)
    wipe(values)
    for stream in streams:
        os.close(stream.inner)
    forward_signals(os.pidfd_open(child), streams, terminal_reaches_it=True)
    running = Streams(streams)
    while running:
        poll = select.poll()
        running.watch(poll)
        ready = poll.poll(running.patience)
        for source, _ in ready:
            running.pass_on(source)
        if not ready:
            running.settle()
    return os.waitpid(child, 0)[1]


def block_signals() -> set[int]:
    """Hold all signals back that are passed on, so that none is lost; gives the mask that was in force."""
    return set(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)))


def become_child(become: Become, streams: Sequence[Stream], signals: set[int]) -> NoReturn:
    """In the new process: take the inner ends of the streams, and become the command."""
    try:
        for stream in streams:
            for target in stream.targets:
                os.dup2(stream.inner, target)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        become()
    finally:
        os._exit(FAILED_START)  # whatever went wrong, there must not be two of us


def forward_signals(process: int, streams: Sequence[Stream], *, terminal_reaches_it: bool) -> None:
    """Pass signals on from now on, in a thread that lives as long as we do.

    Args:
        process: a pidfd, so that nobody else is met who has the number by then.
        streams: those that are terminals follow the size of ours.
        terminal_reaches_it: the command is in our process group, so has what a terminal sends.
    """
    terminals = [stream for stream in streams if stream.terminal]

    def forward() -> None:
        while True:
            sent = signal.sigwaitinfo(FORWARDED)
            try:
                if sent.si_signo == signal.SIGWINCH:
                    for stream in terminals:
                        copy_size(stream.targets[0], stream.source)
                elif terminal_reaches_it and sent.si_code == FROM_TERMINAL:
                    continue
                signal.pidfd_send_signal(process, sent.si_signo)
            except OSError:
                pass  # it has ended, or its terminal has; whoever waits for it says so

    threading.Thread(target=forward, daemon=True).start()


def end_as(status: int) -> int:
    """The exit status in a wait status; where a signal ended the command, the same one ends us.

    To the first process of a container its own signals do nothing (pid_namespaces(7)): then it is the status
    that shells give to such an end.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        return AS_IN_SHELLS + number
    return os.waitstatus_to_exitcode(status)
