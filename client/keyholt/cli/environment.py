"""The environment that `keyholt run` gives to a command: put together, its references filled in, handed over.

- A variable is a reference if its whole value is one; a reference inside other text stays as it is.
- Everything is bytes here, as the kernel has it, so that no locale changes a value on the way.
- Nothing is imported but built-in modules, until an error; not even ``os``, see ``keyholt.address``.
"""

from __future__ import annotations

import posix
import sys

from keyholt.cli.envfile import EnvFileError, parse
from keyholt.cli.hardening import restore_core_limits
from keyholt.reference import SCHEME
from keyholt.reference import parse as parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final, NoReturn

__all__ = ["VariableError", "assemble", "fill", "references", "replace_process", "require_text"]

_signal: Any = __import__("_signal")  # the built-in part of `signal`, which imports enum

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""What a shell answers, and programs that start commands in its stead do too (POSIX XCU 2.8.2)."""

DEFAULT_PATH: Final = b"/bin:/usr/bin"
"""Where commands are looked for without a variable PATH, as ``os.defpath``."""

_FILE: Final = "put it into a file with `keyholt inject`"
_NUL: Final = f"holds a NUL byte, which no variable can; {_FILE}"


class VariableError(ValueError):
    """A variable cannot be given to the command; the message names it and never its value."""


def assemble(files: Sequence[str], inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The inherited environment with the variables of the files over it, later ones over earlier ones.

    Raises:
        OSError: a file cannot be read.
        VariableError: a file is not in the format; names the file and the line.
    """
    environment = dict(inherited)
    for file in files:
        with open(file, "rb") as stream:
            data = stream.read()
        try:
            variables = parse(data)
        except EnvFileError as error:
            raise VariableError(f"{file}, {error}") from None
        for name, value in variables.items():
            if "\0" in value:
                raise VariableError(f"{file}: the value of {name} {_NUL}")
            environment[name.encode()] = value.encode()
    return environment


def references(environment: Mapping[bytes, bytes]) -> dict[bytes, tuple[str, int | None, str | None]]:
    """The path, version and field that variables refer to, by the variable's name.

    Raises:
        VariableError: a reference is not well formed; names the variable.
    """
    found: dict[bytes, tuple[str, int | None, str | None]] = {}
    for name, value in environment.items():
        if value.startswith(SCHEME.encode()):
            try:
                found[name] = parse_reference(value.decode())
            except Exception as error:  # not UTF-8, or not a reference
                raise VariableError(f"the variable {_shown(name)}: {_reason(error)}") from None
    return found


def fill(environment: dict[bytes, bytes], name: bytes, value: bytearray) -> None:
    """Set a variable to a secret's value.

    Raises:
        VariableError: the value holds a NUL byte or is not UTF-8.
    """
    require_text(name, value)
    environment[name] = bytes(value)


def require_text(name: bytes, value: bytearray) -> None:
    """Hold a secret's value against what a variable can have.

    Raises:
        VariableError: it holds a NUL byte or is not UTF-8.
    """
    if 0 in value:
        raise VariableError(f"the variable {_shown(name)}: its secret {_NUL}")
    try:
        value.decode()
    except UnicodeDecodeError:
        pass  # it holds the value: raised in here, the next error would keep it as its context
    else:
        return
    raise VariableError(f"the variable {_shown(name)}: its secret is not UTF-8 text; {_FILE}")


def replace_process(command: Sequence[str], environment: Mapping[bytes, bytes]) -> tuple[int, str]:
    """Become the command; returns only if that failed, with the exit status and what to say."""
    restore_core_limits()
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them; the command expects the default
        _signal.signal(number, _signal.SIG_DFL)
    try:
        _execute(list(command), environment)
    except FileNotFoundError:
        return NOT_FOUND, f"the command {command[0]!r} was not found; give its path, or see $PATH"
    except (OSError, ValueError) as error:
        return NOT_EXECUTABLE, f"the command {command[0]!r} cannot be run: {_reason(error)}"


def _execute(command: list[str], environment: Mapping[bytes, bytes]) -> NoReturn:
    """Become the command, looked for as a shell does: ``os.execvpe``, which imports much.

    Raises:
        OSError: the first that speaks of a file that is there, else the last.
    """
    name = command[0].encode(sys.getfilesystemencoding(), "surrogateescape")
    folders = [b""] if b"/" in name else environment.get(b"PATH", DEFAULT_PATH).split(b":")
    found: OSError | None = None
    missing: OSError = FileNotFoundError()
    for folder in folders:
        try:
            posix.execve(folder + b"/" + name if folder else name, command, environment)
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = error
        except OSError as error:
            found = found or error
    raise found or missing


def _shown(name: bytes) -> str:
    return name.decode(sys.getfilesystemencoding(), "surrogateescape")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a reference must be UTF-8 text"
    return getattr(error, "strerror", None) or str(error)
