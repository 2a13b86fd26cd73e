"""``keyholt-agent``: reads the configuration, makes the parts, wires them, and runs until told to stop.

Wiring only. The order matters: hardening (``start`` has done it before this was imported), locked memory, the
store, the socket; a step that fails ends the start with one sentence, and the steps before it are undone.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

import trio

from keyholt_agent import __version__
from keyholt_agent.config import MIN_CONNECTIONS, ConfigError, Settings, UnixListenSettings, load_settings
from keyholt_agent.defects import log_defect
from keyholt_agent.handlers import bindings
from keyholt_agent.hardening import HardeningError, harden
from keyholt_agent.keys import sodium
from keyholt_agent.memory import Arena, LockedMemoryError
from keyholt_agent.memory.residue import ResidueClearing
from keyholt_agent.pipeline import Pipeline
from keyholt_agent.quotas import ConnectionQuotas
from keyholt_agent.services import Services
from keyholt_agent.store import open_store
from keyholt_agent.transport.endpoint import Endpoint
from keyholt_agent.transport.server import Server
from keyholt_agent.transport.unix.admission import OWN_UIDS, Admission
from keyholt_agent.transport.unix.credentials import uid_quota
from keyholt_agent.transport.unix.endpoint import RefusalLog, UnixEndpoint
from keyholt_agent.transport.unix.handout import HandOutEndpoint
from keyholt_agent.transport.unix.listener import (
    ListenError,
    UnixListener,
    inherited_listeners,
    resolve_group,
)
from keyholt_agent.vault.secret_cache import SecretCache
from keyholt_protocol.errors import StoreUnavailableError
from keyholt_protocol.limits import MAX_REQUEST_HEADER
from keyholt_protocol.operations import OPERATIONS

__all__ = ["main"]

RECEIVE_BUFFER: Final = MAX_REQUEST_HEADER
"""Bytes of locked memory that all sessions receive into, one at a time; the largest header fits."""

HAND_OUT_SUFFIX: Final = ".fds"
"""What the name of the socket that hands out connections has behind that of the socket for connections."""

RESERVED_DESCRIPTORS: Final = 64
"""Descriptors that connections leave to the store, the locks and the interpreter."""

_REFUSALS: Final = (
    ConfigError, HardeningError, LockedMemoryError, StoreUnavailableError, ListenError, sodium.SodiumError,
)  # fmt: skip
"""What keeps the agent from starting, each with a sentence that says why."""

_ENDED_BY_DEFECT: Final = (
    "it has met a defect that it cannot go on with, and ended; start it again, and report the line above"
)

SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which the store's thread, at work on a page, lets go of the interpreter for the loop: a fetch
from the cache waits no longer for it. Python's own 5 ms is a hundred fetches."""

_log: Final = logging.getLogger("keyholt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent; gives the exit status: 0 stopped as told, 1 could not start or go on, 2 usage."""
    options = _parse(arguments)
    try:
        settings = _with_options(load_settings(options.config, os.environ), options)
        _set_up_logging(settings.agent.level)
        harden()
        sys.setswitchinterval(SWITCH_INTERVAL)
        trio.run(_serve, settings, instruments=[ResidueClearing()])
    except _REFUSALS as error:
        print(f"keyholt-agent: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        # Of a part that the others cannot go on without (``defects``). Every key is zeroed by now. Python's
        # own traceback would have the exception's message, which might repeat a peer's data.
        log_defect(error)
        print(f"keyholt-agent: {_ENDED_BY_DEFECT}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: Settings) -> None:
    """Serve until a signal says stop; then end the sessions, zero every key, and finish the store's work."""
    store_path = settings.store_path(os.environ)
    quotas = ConnectionQuotas(
        _connection_limit(settings.listen.unix), frozenset(uid_quota(uid) for uid in OWN_UIDS)
    )
    async with AsyncExitStack() as stack:
        # Before the sockets are there: whoever sees one may tell the agent to end, and that must not kill it.
        signals = stack.enter_context(trio.open_signal_receiver(*_endings()))
        arena = stack.enter_context(closing(Arena.open(settings.memory)))
        sodium.load()
        cache = SecretCache(settings.store.cache)
        store = await stack.enter_async_context(open_store(store_path.parent, cache))
        services = Services(
            settings=settings,
            arena=arena,
            cache=cache,
            store=store,
            store_path=store_path,
            connections=quotas,
        )
        stack.callback(services.vault.lock)
        buffer = stack.enter_context(arena.allocate(RECEIVE_BUFFER, lasting=True))
        listeners = [stack.enter_context(listener) for listener in _listeners(settings)]
        for listener in listeners:
            _log.info("serving %s, %s", listener.path or "an inherited socket", services.vault.state)
        endpoints = [stack.enter_context(closing(one)) for one in _endpoints(listeners, settings, quotas)]
        handlers = bindings(services, _features(listeners))
        pipeline = Pipeline(OPERATIONS, handlers, gate=services.vault.require, arena=arena)
        server = Server(pipeline, buffer, quotas)
        services.vault.when_locked(server.forget_secrets)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(services.vault.lock_in_time)
            nursery.start_soon(services.rewrapping.run)
            nursery.start_soon(store.stand_by)
            nursery.start_soon(server.serve, endpoints)
            _log.info("stopping on %s", signal.Signals(await anext(signals)).name)
            nursery.cancel_scope.cancel()


def _endings() -> Iterator[signal.Signals]:
    """The signals that end the agent."""
    yield from (signal.SIGTERM, signal.SIGINT)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) has said to go on without a terminal
        yield signal.SIGHUP


def _listeners(settings: Settings) -> Iterator[UnixListener]:
    """The sockets that were passed on, or the two of a path: for connections, and to hand them out."""
    if inherited := inherited_listeners(os.environ):
        yield from inherited
        return
    path, unix = settings.socket_path(os.environ), settings.listen.unix
    yield UnixListener.bind(path, unix)
    yield UnixListener.bind(path.with_name(path.name + HAND_OUT_SUFFIX), unix, socket.SOCK_SEQPACKET)


def _features(listeners: Iterable[UnixListener]) -> tuple[str, ...]:
    """What the greeting says of these sockets; a service manager need not have passed on both kinds."""
    hands_out = any(listener.socket.type == socket.SOCK_SEQPACKET for listener in listeners)
    return ("hand-out",) if hands_out else ()


def _endpoints(
    listeners: Iterable[UnixListener], settings: Settings, quotas: ConnectionQuotas
) -> Iterator[Endpoint]:
    admission, refusals = _admission(settings.listen.unix), RefusalLog()
    for listener in listeners:
        if listener.socket.type == socket.SOCK_SEQPACKET:
            yield HandOutEndpoint(listener.socket, admission, refusals, quotas)
        else:
            yield UnixEndpoint(listener.socket, admission, refusals)


def _admission(settings: UnixListenSettings) -> Admission:
    return Admission(uids=OWN_UIDS.union(settings.allow_uids), group=resolve_group(settings.group))


def _connection_limit(settings: UnixListenSettings) -> int:
    """What is configured, or what the limit on open files, raised as far as it goes, leaves of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    possible = settings.max_connections if hard == resource.RLIM_INFINITY else hard - RESERVED_DESCRIPTORS
    return max(MIN_CONNECTIONS, min(settings.max_connections, possible))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="keyholt-agent", description="Holds unlocked keys and serves secrets."
    )
    parser.add_argument("--config", type=_path, metavar="FILE", help="the configuration, TOML")
    parser.add_argument("--socket", type=_path, metavar="PATH", help="the Unix socket to serve")
    parser.add_argument("--state-dir", type=_path, metavar="DIR", help="where the store lives")
    parser.add_argument("--version", action="version", version=f"keyholt-agent {__version__}")
    return parser.parse_args(arguments)


def _path(text: str) -> Path:
    if not text:  # as of a variable that is not set: not what is meant by leaving the option out
        raise argparse.ArgumentTypeError("the path is empty; give one, or leave the option out")
    return Path(text)


def _with_options(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings with what the command line overrides."""
    if options.state_dir:
        agent = dataclasses.replace(settings.agent, state_dir=os.path.abspath(options.state_dir))
        settings = dataclasses.replace(settings, agent=agent)
    if options.socket:
        unix = dataclasses.replace(settings.listen.unix, path=os.path.abspath(options.socket))
        settings = dataclasses.replace(settings, listen=dataclasses.replace(settings.listen, unix=unix))
    return settings


def _set_up_logging(level: str) -> None:
    """Log what the agent says from ``level`` on, and of its libraries warnings alone."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="keyholt-agent: %(levelname)s: %(message)s"
    )
    for ours in ("keyholt", "keyholt_agent"):
        logging.getLogger(ours).setLevel(level.upper())
