"""The command ``import``: every variable of an environment file becomes the secret PREFIX/NAME.

- A variable that already is a reference is not stored; it goes into the file of references as it is.
- All names are checked before the first is written. If a write fails, those before it are there, and
  importing again writes them once more as a next version.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from keyholt import calls, connect
from keyholt.cli.entry import write_all
from keyholt.cli.envfile import EnvFileError, parse, write_variable
from keyholt.cli.output import say, show
from keyholt.cli.parser import UsageError
from keyholt.cli.progress import shown
from keyholt.reference import is_reference, write

__all__ = ["import_file"]


def import_file(options: Namespace) -> int:
    """JSON: ``imported``: an array of ``path``, ``version``; ``kept``: names that were references already."""
    variables = _read(options.file)
    prefix = options.prefix.rstrip("/")
    stored = {name: value for name, value in variables.items() if not is_reference(value)}
    paths = {name: f"{prefix}/{name}" for name in stored}
    puts = [calls.put(paths[name], value, None, None, None) for name, value in stored.items()]
    with connect(options.address) as agent:
        results = list(shown(agent.perform_all(puts), len(puts), "importing"))
    if options.references is not None:
        lines = [
            write_variable(name, write(paths[name]) if name in paths else variables[name])
            for name in variables
        ]
        _write(options.references, "".join(lines))
    kept = [name for name in variables if name not in stored]
    if options.json:
        imported = [
            {"path": path, "version": result.version}
            for path, result in zip(paths.values(), results, strict=True)
        ]
        show({"imported": imported, "kept": kept})
    else:
        already = f"; {len(kept)} were references already" if kept else ""
        say(f"imported {len(results)} secrets below {prefix}/{already}")
    return 0


def _read(file: str) -> dict[str, str]:
    if file == "-" and sys.stdin is None:
        raise UsageError("standard input is closed; give a file")
    with open(0 if file == "-" else file, "rb", closefd=file != "-") as stream:
        data = stream.read()
    try:
        return parse(data)
    except EnvFileError as error:
        raise ImportFileError(f"{'standard input' if file == '-' else file}, {error}") from None


class ImportFileError(ValueError):
    """The file is not in the format; names the file and the line."""


def _write(file: str, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, text.encode())
    finally:
        os.close(descriptor)
