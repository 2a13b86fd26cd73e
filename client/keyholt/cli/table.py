"""The commands of ``keyholt``, once: the parser, the help and the shell completions are made from this table.

- A command that is one operation of the registry has that operation's sentence as its help.
- ``handler`` is where the command is carried out, ``module:function``, imported when it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from keyholt_protocol import operations as ops

__all__ = ["COMMANDS", "EPILOG", "GLOBAL", "GROUPS", "Command", "Kind", "Parameter"]


class Kind(Enum):
    """What a parameter takes, for the parser and for completion."""

    FLAG = "nothing"
    TEXT = "text"
    NUMBER = "a number"
    FILE = "a file"
    SECRET = "the path of a secret"
    COMMAND = "a command and its arguments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """An option, if its names begin with ``-``, or else a positional argument.

    Attributes:
        names: short name first; a positional has one, in capitals.
        kind: what it takes.
        metavar: how the help calls what it takes.
        choices: the only words that it takes, where there are few.
        optional: a positional may be left out; every option may.
        many: it may be given several times.
    """

    names: tuple[str, ...]
    help: str
    kind: Kind = Kind.TEXT
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    required: bool = False
    many: bool = False

    @property
    def is_option(self) -> bool:
        return self.names[0].startswith("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        words: one or two, as typed.
        help: what it does, in a sentence or two.
        handler: ``module:function``.
        json: what it prints with ``--json``: a shape that stays as it is.
        parameters: its own, in the order of the help.
    """

    words: tuple[str, ...]
    help: str
    handler: str
    json: str
    parameters: tuple[Parameter, ...] = ()


def _passphrase(what: str = "the passphrase", prefix: str = "") -> tuple[Parameter, ...]:
    return (
        Parameter(
            names=(f"--{prefix}passphrase-fd",),
            help=f"read {what} from this file descriptor (default: ask on the terminal)",
            kind=Kind.NUMBER,
            metavar="N",
        ),
        Parameter(
            names=(f"--{prefix}passphrase-file",),
            help=f"read {what} from this file (default: ask on the terminal)",
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
    help="read variables from this file too; a later one overrides (default: none)",
    kind=Kind.FILE,
    metavar="FILE",
    many=True,
)

GLOBAL: Final = (
    Parameter(
        names=("--address",),
        help="where the agent is: a path, unix:PATH or fd:N (default: $KEYHOLT_ADDRESS, or a usual place)",
        kind=Kind.FILE,
        metavar="ADDR",
    ),
    Parameter(
        names=("--timeout",),
        help="seconds that the agent may take for an answer, 0: as long as it takes (default: 60)",
        kind=Kind.NUMBER,
        metavar="N",
    ),
    Parameter(names=("--json",), help="print results and errors as JSON", kind=Kind.FLAG),
)
"""Options of every command, before it or after it; of `run` and its command, before the ``--``."""

EPILOG: Final = """\
where the agent is:
  --address, else $KEYHOLT_ADDRESS, else $XDG_RUNTIME_DIR/keyholt/agent.sock
  if it exists, else /run/keyholt/agent.sock
  written as a path, unix:PATH, or fd:N: a descriptor that was inherited, from
  `keyholt run --share-agent` or another program

exit status:
  0  done
  1  failed
  2  the command line, or a name in it, cannot be right
  3  not found
  4  the agent is locked, or has no store yet
  5  denied
  6  the agent is not reachable
  `keyholt run` gives its command's; 126: it cannot be run, 127: there is none

An error with --json is {"error": {"code", "message", "retryable", "details"}} on standard
error.
"""
"""What the help says last."""

GROUPS: Final = {"slot": "Manages the keyslots: the ways to unlock the store."}
"""First words of two-word commands, with their help."""

COMMANDS: Final = (
    Command(
        words=("init",),
        help=ops.STORE_INIT.summary,
        handler="keyholt.cli.agent:init",
        json="an object: store_id, slot, kdf",
        parameters=(
            Parameter(names=("--slot",), help="the keyslot's name (default: passphrase)", metavar="NAME"),
            *_passphrase(),
        ),
    ),
    Command(
        words=("unlock",),
        help=ops.AGENT_UNLOCK.summary,
        handler="keyholt.cli.agent:unlock",
        json="an object: slot, the keyslot that opened",
        parameters=(
            Parameter(names=("--slot",), help="the keyslot to try (default: each)", metavar="NAME"),
            *_passphrase(),
        ),
    ),
    Command(
        words=("lock",), help=ops.AGENT_LOCK.summary, handler="keyholt.cli.agent:lock", json="an empty object"
    ),
    Command(
        words=("status",),
        help=ops.AGENT_STATUS.summary,
        handler="keyholt.cli.agent:status",
        json="an object: the fields of `agent.status` (docs/protocol.md), null where there is nothing to say",
    ),
    Command(
        words=("put",),
        help=ops.SECRET_PUT.summary,
        handler="keyholt.cli.secrets:put",
        json="an object: path, version, created",
        parameters=(
            _PATH,
            Parameter(
                names=("--file",),
                help="read the value, as it is, from this file (default: standard input)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
            Parameter(
                names=("--if-version",),
                help="write only if this is the newest version, 0: if there is none (default: in any case)",
                kind=Kind.NUMBER,
                metavar="N",
            ),
            Parameter(
                names=("--label",),
                help="a label of the version; may be given several times",
                metavar="KEY=VALUE",
                many=True,
            ),
            Parameter(
                names=("--expires",),
                help="when the version ceases to be given out: 90d, 12h, 30m, 2031-12-31 or a full ISO time "
                "(default: never)",
                metavar="WHEN",
            ),
        ),
    ),
    Command(
        words=("get",),
        help=f"{ops.SECRET_GET.summary} A newline follows it on a terminal only.",
        handler="keyholt.cli.secrets:get",
        json="an object: path, version, created, expires, labels, encoding (utf-8 or base64), value",
        parameters=(
            _PATH,
            Parameter(
                names=("--version",),
                help="the version to get (default: the newest)",
                kind=Kind.NUMBER,
                metavar="N",
            ),
            Parameter(names=("-n", "--no-newline"), help="no newline on a terminal either", kind=Kind.FLAG),
        ),
    ),
    Command(
        words=("list",),
        help="Lists live secrets without their values.",
        handler="keyholt.cli.secrets:list_secrets",
        json="an array of objects: path, version, created, expires, labels, damaged",
        parameters=(
            Parameter(
                names=("PREFIX",),
                help="how their paths begin (default: all)",
                kind=Kind.SECRET,
                optional=True,
            ),
            Parameter(names=("-l", "--long"), help="with version, date and labels", kind=Kind.FLAG),
        ),
    ),
    Command(
        words=("history",),
        help="Lists the versions of a secret, newest first; of a deleted one too.",
        handler="keyholt.cli.secrets:history",
        json="an object: latest, deleted (null, or since when), versions (an array of objects: version, "
        "created, destroyed, expires, labels, damaged)",
        parameters=(_PATH,),
    ),
    Command(
        words=("rm",),
        help=ops.SECRET_DELETE.summary,
        handler="keyholt.cli.secrets:delete",
        json="an object: path, version (the newest, now hidden)",
        parameters=(_PATH,),
    ),
    Command(
        words=("undelete",),
        help=ops.SECRET_UNDELETE.summary,
        handler="keyholt.cli.secrets:undelete",
        json="an object: path, version (the newest, visible again)",
        parameters=(_PATH,),
    ),
    Command(
        words=("destroy",),
        help=ops.SECRET_DESTROY.summary,
        handler="keyholt.cli.secrets:destroy",
        json="an object: path, version",
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
        json="nothing of its own but errors",
        parameters=(
            _ENV_FILE,
            Parameter(
                names=("--share-agent",),
                help="let the command inherit a way to the agent (fd:N), for a sandbox without sockets",
                kind=Kind.FLAG,
            ),
            Parameter(names=("CMD",), help="the command and its arguments, after --", kind=Kind.COMMAND),
        ),
    ),
    Command(
        words=("inject",),
        help="Replaces references in a text (keyholt://PATH or {{ keyholt://PATH }}) by their values.",
        handler="keyholt.cli.running:inject",
        json="an object, with --out-file only: file, references (how many)",
        parameters=(
            Parameter(
                names=("-i", "--in-file"),
                help="the text (default: standard input)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
            Parameter(
                names=("-o", "--out-file"),
                help="write here, readable by the owner only (default: standard output)",
                kind=Kind.FILE,
                metavar="FILE",
            ),
        ),
    ),
    Command(
        words=("import",),
        help="Writes every variable of an environment file as the secret PREFIX/NAME.",
        handler="keyholt.cli.importing:import_file",
        json="an object: imported (an array of objects: path, version), kept (the names that were "
        "references already)",
        parameters=(
            Parameter(names=("FILE",), help="the file; - is standard input", kind=Kind.FILE),
            Parameter(names=("PREFIX",), help="the path to write below", kind=Kind.SECRET),
            Parameter(
                names=("--references",),
                help="write an environment file of references here, for `run --env-file` (default: none)",
                kind=Kind.FILE,
                metavar="OUT",
            ),
        ),
    ),
    Command(
        words=("slot", "list"),
        help=ops.SLOT_LIST.summary,
        handler="keyholt.cli.slots:list_slots",
        json="an array of objects: name, kind, created, kdf",
    ),
    Command(
        words=("slot", "add"),
        help="Adds a keyslot with a passphrase of its own.",
        handler="keyholt.cli.slots:add",
        json="an object: name, kdf",
        parameters=(
            Parameter(names=("KIND",), help="passphrase: the only kind so far", choices=("passphrase",)),
            Parameter(names=("--name",), help="the new keyslot's name", metavar="NAME", required=True),
            *_passphrase("a passphrase that opens a keyslot"),
            *_passphrase("the new passphrase", "new-"),
        ),
    ),
    Command(
        words=("slot", "remove"),
        help=ops.SLOT_REMOVE.summary,
        handler="keyholt.cli.slots:remove",
        json="an object: name",
        parameters=(_SLOT_NAME, *_passphrase("a passphrase that opens a keyslot that stays")),
    ),
    Command(
        words=("slot", "change"),
        help="Changes the passphrase of a keyslot.",
        handler="keyholt.cli.slots:change",
        json="an object: name, kdf",
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
        json="an object: ok, findings (an array of objects: state (ok, note or wrong), subject, text, remedy "
        "(null where there is none)), with status 1 if anything is wrong",
    ),
    Command(
        words=("completion",),
        help="Prints the completion script of a shell.",
        handler="keyholt.cli.completion:completion",
        json="the script as it is",
        parameters=(Parameter(names=("SHELL",), help="bash, zsh or fish", choices=("bash", "zsh", "fish")),),
    ),
)
