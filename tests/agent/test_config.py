"""The configuration: what is said is taken, what is not known is refused with the nearest thing that is."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest

from keyholt_agent import config
from keyholt_agent.config import ConfigError, Settings, load_settings
from tests.support.users import need_other_uids

NOWHERE = {"HOME": "/nonexistent"}


def load(tmp_path: Path, text: str) -> Settings:
    """The settings that a file of this text gives."""
    file = tmp_path / "agent.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, NOWHERE)


def test_without_a_file_every_default_holds(tmp_path: Path) -> None:
    """No file is the same as an empty one."""
    assert load_settings(None, NOWHERE) == Settings() == load(tmp_path, "")


def test_everything_said_is_taken(tmp_path: Path) -> None:
    """Every setting there is, each of another value than its default."""
    text = """
        [agent]
        state_dir = "/var/lib/k"
        level = "debug"
        autostart = true
        [memory]
        backend = "mlock"
        size = 2097152
        [unlock]
        kdf_target = 2
        idle_timeout = 60
        max_lifetime = 0
        [store]
        cache = 1024
        [listen.unix]
        path = "/run/k.sock"
        mode = "0660"
        group = "wheel"
        allow_uids = [1, 2]
        max_connections = 9
    """
    settings = load(tmp_path, text)
    assert settings.unlock.kdf_target == 2.0
    assert settings.listen.unix.allow_uids == (1, 2)
    assert leaves(Settings, tomllib.loads(text)) == set()


def leaves(cls: type[Any], table: dict[str, Any], prefix: str = "") -> set[str]:
    """The settings that a table does not set."""
    left: set[str] = set()
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            left |= leaves(typing.cast("type[Any]", hint), table.get(name, {}), f"{prefix}{name}.")
        elif name not in table:
            left.add(prefix + name)
    return left


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("[unlok]", "'unlok' is not a setting; the nearest is 'unlock'"),
        ("[listen.unxi]", "'listen.unxi' is not a setting; the nearest is 'listen.unix'"),
        ("[listen.unix]\nmax_connection = 1", "the nearest is 'listen.unix.max_connections'"),
        ("state_dir = '/x'", "'state_dir' is not a setting; 'agent.state_dir' is"),
        ("[agent]\nstate_dir = '~/x'", "agent.state_dir must be an absolute path, not '~/x'"),
        ("[listen.unix]\npath = 'agent.sock'", "listen.unix.path must be an absolute path"),
        ("[agent]\nlevel = 'loud'", "agent.level must be debug, info, warning or error"),
        ("[agent]\nlevel = 5", "'agent.level' must be text"),
        ("[agent]\nstate_dir = false", "'agent.state_dir' must be text"),
        ("[unlock]\nidle_timeout = 1.5", "'unlock.idle_timeout' must be an integer"),
        ("[unlock]\nidle_timeout = true", "'unlock.idle_timeout' must be an integer"),
        ("[unlock]\nidle_timeout = -1", "unlock.idle_timeout must"),
        ("[unlock]\nkdf_target = 61", "unlock.kdf_target must"),
        ("[unlock]\nkdf_target = nan", "unlock.kdf_target must"),
        ("[unlock]\nkdf_target = inf", "unlock.kdf_target must"),
        ("[unlock]\nkdf_target = -0.1", "unlock.kdf_target must"),
        (f"[unlock]\nidle_timeout = 1{'0' * 400}", "unlock.idle_timeout must"),
        ("[store]\ncache = -1", "store.cache must not be negative"),
        ("[listen.unix]\nmax_connections = 1", "listen.unix.max_connections must be at least 2"),
        ("[listen.unix]\nallow_uids = ['root']", "'listen.unix.allow_uids' must be an array of integers"),
        ("[listen.unix]\nallow_uids = [true]", "'listen.unix.allow_uids' must be an array of integers"),
        ("[listen.unix]\nallow_uids = 5", "'listen.unix.allow_uids' must be an array of integers"),
        ("[listen.unix]\nmode = 600", "'listen.unix.mode' must be text"),
        ("[listen.unix]\nmode = '1777'", "listen.unix.mode must be octal text"),
        ("[listen]\nunix = '/run/x'", "'listen.unix' must be a table"),
        ("[memory]\nbackend = 'ram'", "'memory.backend' must be one of 'auto', 'memfd_secret', 'mlock'"),
        ("[memory]\nbackend = [1]", "'memory.backend' must be one of"),
        ("[memory]\nsize = '1M'", "'memory.size' must be an integer"),
        ("key = = 1", "is not valid TOML"),
    ],
)  # fmt: skip
def test_mistake_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    """By its key, with what to write instead, and with the file."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert sentence in str(caught.value)
    assert "agent.toml" in str(caught.value)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that was asked for must be there, and be text."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.toml", NOWHERE)
    with pytest.raises(ConfigError, match="is no regular file"):
        load_settings(tmp_path, NOWHERE)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_settings(tmp_path / "binary.toml", NOWHERE)


def test_file_that_others_could_have_written(tmp_path: Path) -> None:
    """The file itself, its directory or one above: refused by name, with the remedy; readable is no harm."""
    file = tmp_path / "above" / "keyholt" / "agent.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[store]\ncache = 1")
    file.chmod(0o644)
    usual = {"XDG_CONFIG_HOME": str(tmp_path / "above")}
    for spoilt in (file, file.parent, file.parent.parent):
        mode = spoilt.stat().st_mode
        spoilt.chmod(mode | 0o020)
        for path, environment in ((file, NOWHERE), (None, usual)):
            with pytest.raises(
                ConfigError, match=rf"cannot be believed: others may write to {spoilt} .*chmod"
            ):
                load_settings(path, environment)
        spoilt.chmod(mode)
    assert load_settings(None, usual).store.cache == 1


def test_directory_from_which_others_could_take_the_file(tmp_path: Path) -> None:
    """Where there is a directory for the file, whoever may write there could have taken it away."""
    folder = tmp_path / "keyholt"
    folder.mkdir()
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load_settings(None, environment) == Settings()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write to"):
        load_settings(None, environment)


def test_file_of_another_user(tmp_path: Path) -> None:
    """As when HOME is still that of the user from whom one came by `su`."""
    need_other_uids()
    file = tmp_path / "keyholt" / "agent.toml"
    file.parent.mkdir()
    file.write_text("[store]\ncache = 1")
    os.chown(file, 4711, 4711)
    with pytest.raises(ConfigError, match=r"agent\.toml belongs to uid 4711"):
        load_settings(None, {"XDG_CONFIG_HOME": str(tmp_path)})


def test_file_that_is_a_link(tmp_path: Path) -> None:
    """What counts is where it leads, and every directory on the way there."""
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "agent.toml").write_text("[store]\ncache = 1")
    (tmp_path / "agent.toml").symlink_to("dotfiles/agent.toml")
    assert load_settings(tmp_path / "agent.toml", NOWHERE).store.cache == 1
    (tmp_path / "dotfiles").chmod(0o777)
    with pytest.raises(ConfigError, match=r"others may write to .*dotfiles"):
        load_settings(tmp_path / "agent.toml", NOWHERE)


def test_usual_places_of_the_file(tmp_path: Path) -> None:
    """Systemd's directory goes before XDG's; one that is not there is no error."""
    for name in ("systemd", "xdg/keyholt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "systemd" / "agent.toml").write_text("[store]\ncache = 1")
    (tmp_path / "xdg" / "keyholt" / "agent.toml").write_text("[store]\ncache = 2")
    xdg = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert load_settings(None, xdg).store.cache == 2
    assert load_settings(None, {**xdg, "CONFIGURATION_DIRECTORY": str(tmp_path / "systemd")}).store.cache == 1
    assert load_settings(None, {"XDG_CONFIG_HOME": str(tmp_path / "none")}) == Settings()


def test_places_of_store_and_socket() -> None:
    """Configured, else systemd's, else XDG's; without any the error says what to give."""
    everything = {
        "STATE_DIRECTORY": "/s:/second",
        "RUNTIME_DIRECTORY": "/r",
        "XDG_STATE_HOME": "/xs",
        "XDG_RUNTIME_DIR": "/xr",
        "HOME": "/h",
    }
    settings = Settings()

    def without(*names: str) -> dict[str, str]:
        return {name: value for name, value in everything.items() if name not in names}

    assert settings.store_path(everything) == Path("/s/store.db")
    assert settings.store_path(without("STATE_DIRECTORY")) == Path("/xs/keyholt/store.db")
    assert settings.store_path({"HOME": "/h"}) == Path("/h/.local/state/keyholt/store.db")
    assert settings.socket_path(everything) == Path("/r/agent.sock")
    assert settings.socket_path(without("RUNTIME_DIRECTORY")) == Path("/xr/keyholt/agent.sock")
    with pytest.raises(ConfigError, match="--state-dir"):
        settings.store_path({})
    if os.geteuid() == 0:
        assert settings.socket_path({}) == Path("/run/keyholt/agent.sock")


def test_the_socket_lies_where_a_login_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though no variable names it, if it is there and the user's own; else there is no place for it."""
    uid = os.geteuid() or 4242
    monkeypatch.setattr(config, "RUNTIME_DIRECTORIES", tmp_path)
    own = tmp_path / str(uid)
    root = os.geteuid() == 0
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(ConfigError, match="--socket"):
        Settings().socket_path({})
    own.mkdir()
    if root:
        with pytest.raises(ConfigError, match="--socket"):
            Settings().socket_path({})
        os.chown(own, uid, -1)
    assert Settings().socket_path({}) == own / "keyholt/agent.sock"
