"""`keyholt run --mask`: what the command prints comes by way of us, and the values that it was given do not.

- Values that are too short to be masked are named, before anything is started.
- Only the new process puts values into an environment. Here each is one ``bytearray``, zeroed once that has
  begun; its spellings are looked for, and zeroed once the output has ended.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

from keyholt.cli.environment import fill, replace_process, require_text
from keyholt.cli.inner_terminal import is_ours, supervise_on_terminal
from keyholt.cli.masking import LEAST, bare_size, needles, wipe
from keyholt.cli.output import say_aside, write_error
from keyholt.cli.supervising import end_as, supervise

__all__ = ["run_masked"]


def run_masked(
    command: Sequence[str],
    environment: dict[bytes, bytes],
    values: Mapping[bytes, bytearray],
    *,
    as_json: bool,
) -> int:
    """Run a command with values in its environment and without them in its output; gives its exit status.

    Args:
        values: by the variable's name; they are wiped.

    Raises:
        VariableError: a value cannot be in a variable; nothing was started.
        OSError: there are no descriptors or processes to be had.
    """

    def become() -> NoReturn:
        for name, value in values.items():
            fill(environment, name, value)
        status, problem = replace_process(command, environment)
        write_error(problem, as_json=as_json, code="command_failed")
        os._exit(status)

    sought: list[bytearray] = []
    try:
        for name, value in values.items():
            require_text(name, value)
            if bare_size(value) < LEAST:
                say_aside(f"the value of {os.fsdecode(name)} is not masked: it has fewer than {LEAST} bytes")
        sought = needles(values.values())
        status = (supervise_on_terminal if is_ours() else supervise)(become, sought, [*values.values()])
    finally:
        wipe([*sought, *values.values()])
    return end_as(status)
