"""The commands of ``keyholt``, once: the parser, the help and the shell completions are made from this table.

- A command that is one operation of the registry has that operation's sentence as its help.
- ``handler`` is where the command is carried out, ``module:function``, imported when it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from keyholt_protocol import operations as ops

__all__ = ["COMMANDS", "GLOBAL", "GROUPS", "Command", "Kind", "Parameter"]


class Kind(Enum):
    """What a parameter takes, for the parser and for completion."""

    FLAG = "nothing"
    TEXT = "text"
    NUMBER = "a number"
    FILE = "a file"
    SECRET = "the path of a secret"
    SHELL = "a shell"
    COMMAND = "a command and its arguments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An option, if its names begin with ``-``, or else a positional argument.

    Attributes:
        names: short name first; a positional has one, in capitals.
        kind: what it takes.
        metavar: how the help calls what it takes.
        optional: a positional may be left out; every option may.
        many: it may be given several times.
    """

    names: tuple[str, ...]
    help: str
    kind: Kind = Kind.TEXT
    metavar: str | None = None
    optional: bool = False
    required: bool = False
    many: bool = False

    @property
    def is_option(self) -> bool:
        return self.names[0].startswith("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``words``: one or two, as typed. ``help``: one sentence. ``handler``: ``module:function``."""

    words: tuple[str, ...]
    help: str
    handler: str
    parameters: tuple[Parameter, ...] = ()


def _passphrase(what: str = "the passphrase", prefix: str = "") -> tuple[Parameter, ...]:
    return (
        Parameter(
            names=(f"--{prefix}passphrase-fd",),
            help=f"read {what} from this file descriptor",
            kind=Kind.NUMBER,
            metavar="N",
        ),
        Parameter(
            names=(f"--{prefix}passphrase-file",),
            help=f"read {what} from this file",
            kind=Kind.FILE,
            metavar="FILE",
        ),
    )


_PATH: Final = Parameter(
    names=("PATH",), help="the secret's path, such as prod/db/password", kind=Kind.SECRET
)
_SLOT_NAME: Final = Parameter(names=("NAME",), help="the keyslot's name")
_ENV_FILE: Final = Parameter(
    names=("--env-file",),
    help="read variables from this file too",
    kind=Kind.FILE,
    metavar="FILE",
    many=True,
)

GLOBAL: Final = (
    Parameter(
        names=("--address",),
        help="where the agent is: a path or unix:PATH; without it $KEYHOLT_ADDRESS and the defaults",
        kind=Kind.FILE,
        metavar="ADDR",
    ),
    Parameter(names=("--json",), help="print results and errors as JSON", kind=Kind.FLAG),
)
"""Options of every command, before it or after it."""

GROUPS: Final = {"slot": "Manages the keyslots: the ways to unlock the store."}
"""First words of two-word commands, with their help."""

COMMANDS: Final = (
    Command(
        words=("init",),
        help=ops.INIT.summary,
        handler="keyholt.cli.agent:init",
        parameters=(Parameter(names=("--slot",), help="the keyslot's name", metavar="NAME"), *_passphrase()),
    ),
    Command(
        words=("unlock",),
        help=ops.UNLOCK.summary,
        handler="keyholt.cli.agent:unlock",
        parameters=(Parameter(names=("--slot",), help="the keyslot to try", metavar="NAME"), *_passphrase()),
    ),
    Command(words=("lock",), help=ops.LOCK.summary, handler="keyholt.cli.agent:lock"),
    Command(words=("status",), help=ops.STATUS.summary, handler="keyholt.cli.agent:status"),
    Command(
        words=("put",),
        help=f"{ops.PUT.summary} The value comes from standard input, as it is.",
        handler="keyholt.cli.secrets:put",
        parameters=(
            _PATH,
            Parameter(
                names=("--file",), help="read the value from this file", kind=Kind.FILE, metavar="FILE"
            ),
            Parameter(
                names=("--if-version",),
                help="write only if this is the newest version; 0: only if there is none",
                kind=Kind.NUMBER,
                metavar="N",
            ),
            Parameter(names=("--label",), help="a label of the version", metavar="KEY=VALUE", many=True),
            Parameter(
                names=("--expires",),
                help="when the version ceases to be given out: 90d, 12h, 30m, 2031-12-31 or a full ISO time",
                metavar="WHEN",
            ),
        ),
    ),
    Command(
        words=("get",),
        help=f"{ops.GET.summary} A newline follows it on a terminal only.",
        handler="keyholt.cli.secrets:get",
        parameters=(
            _PATH,
            Parameter(
                names=("--version",), help="a version other than the newest", kind=Kind.NUMBER, metavar="N"
            ),
            Parameter(names=("-n", "--no-newline"), help="no newline on a terminal either", kind=Kind.FLAG),
        ),
    ),
    Command(
        words=("list",),
        help="Lists live secrets without their values.",
        handler="keyholt.cli.secrets:list_secrets",
        parameters=(
            Parameter(names=("PREFIX",), help="how their paths begin", kind=Kind.SECRET, optional=True),
            Parameter(names=("-l", "--long"), help="with version, date and labels", kind=Kind.FLAG),
        ),
    ),
    Command(
        words=("history",),
        help="Lists the versions of a secret, newest first; of a deleted one too.",
        handler="keyholt.cli.secrets:history",
        parameters=(_PATH,),
    ),
    Command(
        words=("rm",), help=ops.DELETE.summary, handler="keyholt.cli.secrets:delete", parameters=(_PATH,)
    ),
    Command(
        words=("undelete",),
        help=ops.UNDELETE.summary,
        handler="keyholt.cli.secrets:undelete",
        parameters=(_PATH,),
    ),
    Command(
        words=("destroy",),
        help=ops.DESTROY.summary,
        handler="keyholt.cli.secrets:destroy",
        parameters=(
            _PATH,
            Parameter(
                names=("--version",),
                help="the version to destroy",
                kind=Kind.NUMBER,
                metavar="N",
                required=True,
            ),
        ),
    ),
    Command(
        words=("run",),
        help="Runs a command with references in its environment (keyholt://PATH) replaced by their values.",
        handler="keyholt.cli.running:run",
        parameters=(
            _ENV_FILE,
            Parameter(names=("CMD",), help="the command and its arguments, after --", kind=Kind.COMMAND),
        ),
    ),
    Command(
        words=("inject",),
        help="Replaces references in a text (keyholt://PATH or {{ keyholt://PATH }}) by their values.",
        handler="keyholt.cli.running:inject",
        parameters=(
            Parameter(
                names=("-i", "--in-file"),
                help="the text; otherwise standard input",
                kind=Kind.FILE,
                metavar="FILE",
            ),
            Parameter(
                names=("-o", "--out-file"),
                help="write here, readable by the owner only; otherwise standard output",
                kind=Kind.FILE,
                metavar="FILE",
            ),
        ),
    ),
    Command(
        words=("import",),
        help="Writes every variable of an environment file as the secret PREFIX/NAME.",
        handler="keyholt.cli.importing:import_file",
        parameters=(
            Parameter(names=("FILE",), help="the file; - is standard input", kind=Kind.FILE),
            Parameter(names=("PREFIX",), help="the path to write below", kind=Kind.SECRET),
            Parameter(
                names=("--references",),
                help="write an environment file of references here, for `keyholt run --env-file`",
                kind=Kind.FILE,
                metavar="OUT",
            ),
        ),
    ),
    Command(words=("slot", "list"), help=ops.SLOT_LIST.summary, handler="keyholt.cli.slots:list_slots"),
    Command(
        words=("slot", "add"),
        help="Adds a keyslot with a passphrase of its own.",
        handler="keyholt.cli.slots:add",
        parameters=(
            Parameter(names=("KIND",), help="passphrase: the only kind so far"),
            Parameter(names=("--name",), help="the new keyslot's name", metavar="NAME", required=True),
            *_passphrase("a passphrase that opens a keyslot"),
            *_passphrase("the new passphrase", "new-"),
        ),
    ),
    Command(
        words=("slot", "remove"),
        help=ops.SLOT_REMOVE.summary,
        handler="keyholt.cli.slots:remove",
        parameters=(_SLOT_NAME, *_passphrase("a passphrase that opens a keyslot that stays")),
    ),
    Command(
        words=("slot", "change"),
        help="Changes the passphrase of a keyslot.",
        handler="keyholt.cli.slots:change",
        parameters=(
            _SLOT_NAME,
            *_passphrase("its present passphrase"),
            *_passphrase("the new passphrase", "new-"),
        ),
    ),
    Command(
        words=("doctor",),
        help="Says, line by line, what is well and what to do about what is not.",
        handler="keyholt.cli.doctor:doctor",
    ),
    Command(
        words=("completion",),
        help="Prints the completion script of a shell.",
        handler="keyholt.cli.completion:completion",
        parameters=(Parameter(names=("SHELL",), help="bash, zsh or fish", kind=Kind.SHELL),),
    ),
)
