"""Where the command ``keyholt`` begins: `get`, `run` and help on the fast path, all else on the full one.

- The installed program (``client/bin/keyholt``) starts Python isolated (-I) and without ``site`` (-S), which
  the full path catches up on. ``program`` refuses another start: what is imported would be for variables and
  the working directory to say.
- ``keyholt get PATH [-n]`` and ``keyholt run [--env-file F] -- CMD`` import next to nothing, with an
  ``--address`` in front or without, and so does the help. Any other option, and anything but success or a
  time that is over, falls through to the full path, which does the work again and reports.
"""

from __future__ import annotations

import posix
import sys
from posix import _exit as leave  # pyright: ignore[reportPrivateUsage]  # it is public as os._exit

from keyholt.cli.descriptors import STDERR, STDOUT, write_all
from keyholt.cli.hardening import harden

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

__all__ = ["main", "program"]

USAGE: Final = 2
FAILED: Final = 1
INTERRUPTED: Final = 130
"""What a shell makes of a program that SIGINT ended: 128 + 2."""


def program() -> NoReturn:
    """Run the command line as the process that it is; ends it."""
    if not sys.flags.isolated:
        remedy = "it is started as `keyholt`, or with `python -I -m keyholt`"
        _end(USAGE, f"{remedy}: without -I others say what runs")
    try:
        harden()
    except OSError as error:
        _end(FAILED, str(error))
    status = main()
    if status == INTERRUPTED:
        _die_of_it()
    if "keyholt.cli.dispatch" not in sys.modules:
        leave(status)  # on the fast path nothing is left to be done, and Python's way out takes 1.5 ms
    sys.exit(status)


def _die_of_it() -> NoReturn:
    """End by the signal that interrupted: a shell goes on with its loop after a program that only says 130.

    At once, too: somebody waits for their prompt, and Python's way out takes ten times as long.
    """
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    posix.kill(posix.getpid(), signal.SIGINT)
    leave(INTERRUPTED)


def _end(status: int, sentence: str) -> NoReturn:
    write_all(STDERR, f"keyholt: {sentence}\n".encode())
    leave(status)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        status = None if sys.stdout is None else _fast(words)
        if status is None:
            if sys.flags.no_site:
                import site

                site.main()  # packages may lie where only that looks
            from keyholt.cli.dispatch import run

            status = run(words)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED


def _fast(words: list[str]) -> int | None:
    """The exit status, or ``None`` where the full path is needed."""
    if not words or words[0] == "help" or words[-1] in {"-h", "--help"}:
        return _help(words)
    address = None
    if words[:1] == ["--address"]:
        address, words = "".join(words[1:2]), words[2:]
    if words[:1] == ["get"]:
        return _get(words[1:], address)
    if words[:1] == ["run"]:
        from keyholt.cli.run_fast import run

        return run(words[1:], address)
    return None


def _help(words: list[str]) -> int | None:
    from keyholt.cli.help_pages import page

    text = page(words[1:] if words[:1] == ["help"] else words[:-1])
    if text is None:
        return None
    try:
        write_all(STDOUT, text.encode())
    except OSError as error:
        return _unwritable(error)
    return 0


def _get(words: list[str], address: str | None) -> int | None:
    newline = "-n" not in words
    paths = [word for word in words if word != "-n"]
    if len(paths) != 1 or paths[0].startswith("-"):
        return None
    from keyholt.address import choose
    from keyholt.cli.fast import SilentError, fetch, pick_from, tell_overdue, tell_silent

    path, version, field = paths[0], None, None
    try:
        if path.startswith("keyholt://"):
            from keyholt.reference import parse

            path, version, field = parse(path)
        (value,) = fetch(choose(address), [(path, version)])
        if field is not None:
            value = pick_from(value, field, path)
    except TimeoutError:
        return tell_overdue()
    except SilentError:
        return tell_silent(choose(address))
    except Exception:  # whatever it is, the full path meets it again and says it well
        return None
    try:
        return _hand_over(value, newline=newline)
    finally:
        value[:] = bytes(len(value))


def _hand_over(value: bytearray, *, newline: bool) -> int | None:
    """Write a value where it is asked for; None where a terminal would act on it, which needs more words."""
    try:
        if posix.isatty(STDOUT):
            from keyholt.cli.harmless import harmless

            if not harmless(value):
                return None
            newline = newline and not value.endswith(b"\n")
        else:
            newline = False
        write_all(STDOUT, value)
        if newline:
            write_all(STDOUT, b"\n")
    except OSError as error:
        return _unwritable(error)
    return 0


def _unwritable(error: OSError) -> int:
    if not isinstance(error, BrokenPipeError):  # a reader that has seen enough needs no message
        write_all(STDERR, f"keyholt: the value could not be written: {error.strerror}\n".encode())
    return 1
