"""The configuration: one TOML file, read once into frozen dataclasses.

- Without a file every default holds: a per-user agent with an embedded store, serving its own uid and root.
- An unknown key is an error that names the key and the nearest known one; a value of another type is an error
  that names the type. Nothing is repaired or ignored.
- It is believed only where nobody but root and the agent's own uid may write it, or put another there.
- Sizes are bytes, times are seconds, modes are octal text.

Paths come, each where the one before is not set: from the command line, the file, systemd's
``STATE_DIRECTORY``, ``RUNTIME_DIRECTORY`` and ``CONFIGURATION_DIRECTORY`` (systemd.exec(5)), and the XDG
base directories.
"""

from __future__ import annotations

import dataclasses
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from keyholt_agent.memory import MemorySettings
from keyholt_agent.ownership import OwnershipError, open_own_file, require_way

__all__ = [
    "AgentSettings",
    "ConfigError",
    "ListenSettings",
    "Settings",
    "StoreSettings",
    "UnixListenSettings",
    "UnlockSettings",
    "load_settings",
]

FILE_NAME: Final = "agent.toml"
STORE_NAME: Final = "store.db"
SOCKET_NAME: Final = "agent.sock"
RUNTIME_DIRECTORIES: Final = Path("/run/user")
"""Where a login makes a directory for each user, named by their uid (pam_systemd(8))."""

MAX_KDF_TARGET: Final = 60
"""Seconds: nobody waits longer to unlock."""

MAX_TIMEOUT: Final = 10 * 365 * 24 * 3600
"""Seconds: ten years, which is as good as 0 for never, and within what clocks and timers take."""

MIN_CONNECTIONS: Final = 2
"""One for a client and one for whoever has to look what is wrong with it."""


class ConfigError(Exception):
    """The configuration cannot be used; the message says what to change and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The daemon itself.

    Attributes:
        state_dir: where the store lives.
        level: the least severe level that is logged: debug, info, warning or error.
        autostart: whether ``keyholt`` starts the agent when a command finds none at your own usual place.
    """

    state_dir: str | None = None
    level: str = "info"
    autostart: bool = False

    def __post_init__(self) -> None:
        _absolute(self.state_dir, "agent.state_dir")
        if self.level not in {"debug", "info", "warning", "error"}:
            raise ConfigError("agent.level must be debug, info, warning or error")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlockSettings:
    """How unlocking behaves.

    Attributes:
        kdf_target: seconds that one passphrase derivation should take, measured at ``init`` and ``slot add``;
            never less than the second set of RFC 9106 costs, which 0 asks for.
        idle_timeout: seconds without a request for keys after which the agent locks itself; 0 is never.
        max_lifetime: seconds after which an unlocked agent locks itself in any case; 0 is never.
    """

    kdf_target: float = 1.0
    idle_timeout: int = 8 * 3600
    max_lifetime: int = 24 * 3600

    def __post_init__(self) -> None:
        bounds = {"kdf_target": MAX_KDF_TARGET, "idle_timeout": MAX_TIMEOUT, "max_lifetime": MAX_TIMEOUT}
        for name, highest in bounds.items():
            if not 0 <= getattr(self, name) <= highest:  # neither does nan, which TOML knows
                raise ConfigError(f"unlock.{name} must be 0 to {highest} seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """``cache``: bytes of memory for the records, still encrypted, of secrets fetched lately."""

    cache: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.cache < 0:
            raise ConfigError("store.cache must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixListenSettings:
    """The Unix socket and who may use it, besides the agent's own uid and root.

    Attributes:
        path: the socket.
        mode: its permissions, octal text.
        group: name or number of the group that owns it and whose members are served; ``mode`` must let it.
        allow_uids: further uids that are served.
        max_connections: connections open at once; half of them at most to one uid other than root and the
            agent's own.
    """

    path: str | None = None
    mode: str = "0600"
    group: str | None = None
    allow_uids: tuple[int, ...] = ()
    max_connections: int = 1024

    def __post_init__(self) -> None:
        _absolute(self.path, "listen.unix.path")
        if not re.fullmatch("0?[0-7]{3}", self.mode):
            raise ConfigError('listen.unix.mode must be octal text such as "0660"')
        if self.max_connections < MIN_CONNECTIONS:
            raise ConfigError(f"listen.unix.max_connections must be at least {MIN_CONNECTIONS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    unix: UnixListenSettings = field(default_factory=UnixListenSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the agent is told from outside."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    unlock: UnlockSettings = field(default_factory=UnlockSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    listen: ListenSettings = field(default_factory=ListenSettings)

    def store_path(self, environment: Mapping[str, str]) -> Path:
        """The store's file, in the state directory.

        Raises:
            ConfigError: no directory can be told from the environment.
        """
        configured = self.agent.state_dir or _first(environment, "STATE_DIRECTORY")
        return (
            Path(configured) / STORE_NAME if configured else _state_home(environment) / "keyholt" / STORE_NAME
        )

    def socket_path(self, environment: Mapping[str, str]) -> Path:
        """The socket's file, in the runtime directory.

        Raises:
            ConfigError: no directory can be told from the environment.
        """
        if self.listen.unix.path:
            return Path(self.listen.unix.path)
        if directory := _first(environment, "RUNTIME_DIRECTORY"):
            return Path(directory) / SOCKET_NAME
        if directory := environment.get("XDG_RUNTIME_DIR"):
            return Path(directory) / "keyholt" / SOCKET_NAME
        if os.geteuid() == 0:
            return Path("/run/keyholt") / SOCKET_NAME
        # As a login would have named it; `su -` and cron do not.
        own = RUNTIME_DIRECTORIES / str(os.geteuid())
        if own.is_dir() and own.stat().st_uid == os.geteuid():
            return own / "keyholt" / SOCKET_NAME
        raise ConfigError(
            "XDG_RUNTIME_DIR is not set, so there is no place for the socket; give --socket PATH"
        )


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the configuration file.

    Args:
        path: the file that was asked for, which must exist; without it the usual places are looked at.
        environment: usually ``os.environ``.

    Raises:
        ConfigError: the file cannot be read, may be written by others, is not TOML, or says something that is
            not known.
    """
    found = path or _usual_file(environment)
    if found is None:
        return Settings()
    import tomllib  # only where there is a file: a start is quicker without

    try:
        with open(open_own_file(found), encoding="utf-8") as file:
            tables = tomllib.loads(file.read())
    except OwnershipError as error:
        raise ConfigError(f"the configuration cannot be believed: {error}") from None
    except OSError as error:
        raise ConfigError(f"the configuration {found} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {found} is not valid TOML: {error}") from None
    try:
        return cast("Settings", _build(Settings, tables, ""))
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"in the configuration {found}: {error}") from None


def _first(environment: Mapping[str, str], name: str) -> str | None:
    """The first directory of one of systemd's variables, which may list several, separated by colons."""
    return environment.get(name, "").split(":")[0] or None


def _usual_file(environment: Mapping[str, str]) -> Path | None:
    if directory := _first(environment, "CONFIGURATION_DIRECTORY"):
        file = Path(directory) / FILE_NAME
    else:
        base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config"
        file = Path(base) / "keyholt" / FILE_NAME
    try:
        if file.parent.is_dir():
            require_way(file.parent)  # who may write there could as well take the file away
        return file if file.is_file() else None
    except OwnershipError as error:
        raise ConfigError(f"the configuration cannot be believed: {error}") from None
    except OSError as error:
        raise ConfigError(
            f"the configuration {file} cannot be looked for: {error.strerror}; correct HOME, or give --config"
        ) from None


def _state_home(environment: Mapping[str, str]) -> Path:
    if directory := environment.get("XDG_STATE_HOME"):
        return Path(directory)
    if home := environment.get("HOME"):
        return Path(home) / ".local" / "state"
    raise ConfigError(
        "neither XDG_STATE_HOME nor HOME is set, so there is no place for the store; give --state-dir DIR"
    )


def _build(cls: type[Any], table: Mapping[str, object], prefix: str) -> object:
    """An instance of a settings dataclass from a TOML table; its tables become nested instances."""
    hints = typing.get_type_hints(cls)
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in hints:
            raise ConfigError(_unknown(prefix + key, prefix, list(hints)))
        values[key] = _convert(hints[key], value, prefix + key)
    return cls(**values)


def _unknown(name: str, prefix: str, known: list[str]) -> str:
    last = name.removeprefix(prefix)
    if below := [full for full in _all_names(Settings, "") if full.rpartition(".")[2] == last]:
        return f"{name!r} is not a setting; {below[0]!r} is"
    import difflib  # only for whoever made a mistake

    near = difflib.get_close_matches(last, known, n=1, cutoff=0.0)
    return f"{name!r} is not a setting; the nearest is {prefix + near[0]!r}"


def _all_names(cls: type[Any], prefix: str) -> list[str]:
    """The dotted name of every setting below a settings dataclass."""
    names: list[str] = []
    for name, hint in typing.get_type_hints(cls).items():
        nested = dataclasses.is_dataclass(hint)
        names += _all_names(cast("type[Any]", hint), f"{prefix}{name}.") if nested else [prefix + name]
    return names


def _absolute(path: str | None, name: str) -> None:
    """Refuse a path that would depend on the directory in which the agent happens to be started."""
    if path is not None and not path.startswith("/"):
        raise ConfigError(f"{name} must be an absolute path, not {path!r}; '~' is not expanded here")


def _convert(hint: object, value: object, name: str) -> object:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{name!r} must be a table")
        return _build(cast("type[Any]", hint), cast("dict[str, object]", value), name + ".")
    if typing.get_origin(hint) is tuple:
        if isinstance(value, list) and all(type(item) is int for item in cast("list[object]", value)):
            return tuple(cast("list[int]", value))
        raise ConfigError(f"{name!r} must be an array of integers")
    allowed = [kind for kind in _kinds(hint) if kind is not types.NoneType]
    if typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
        raise ConfigError(f"{name!r} must be one of {', '.join(map(repr, typing.get_args(hint)))}")
    if type(value) in allowed:
        return value
    if allowed == [float] and type(value) is int:
        return float(value)
    names = " or ".join(_KIND_NAMES.get(kind, repr(kind)) for kind in allowed)
    raise ConfigError(f"{name!r} must be {names}")


def _kinds(hint: object) -> list[object]:
    """The plain types that a hint allows; the values of a ``Literal`` are compared by ``_convert``."""
    if typing.get_origin(hint) is typing.Literal:
        return [str]
    arguments = typing.get_args(hint)
    return [kind for part in arguments for kind in _kinds(part)] if arguments else [hint]


_KIND_NAMES: Final[dict[object, str]] = {
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}
