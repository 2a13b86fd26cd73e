"""What an agent leaves of passphrases, keys and values: in memory, registers, cores and files, from outside.

It lives a life with them: two thousand fetches and writes over several connections, pipelined, in pieces,
refused and broken off; locked, unlocked, with wrong passphrases, with keyslots coming and going. It is
searched for all of them, and for what operations make of keys. Shorter lives are lived on each code path that
the processor offers, with environments of different sizes, and searched at every stage.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import registers
from tests.support.agent_process import AgentProcess, hurried
from tests.support.code_paths import CODE_PATHS, CodePath
from tests.support.hoarding import Hoarding
from tests.support.memory_scan import Scan, dump_core, scan_core, scan_process, scan_registers, scannable
from tests.support.secret_life import SecretLife

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY: Final = 2_000
SOME: Final = 500

USUAL_PATH: Final = [
    CODE_PATHS[0],
    *(pytest.param(path, marks=pytest.mark.torture) for path in CODE_PATHS[1:]),
]
"""One code path. On the others too it is cleared by what the tests of all of them look at."""

ROOT_KEYS: Final = {"root key", "wrap key", "slot MAC key", "element key", "seal key"}

IN_ARENA: Final = ROOT_KEYS | {"confirmation secret", "master key 1"}
"""What an unlocked agent holds; with ``mlock`` root can read it, other than secret memory."""

FETCHED: Final = "data key of "
"""What it holds beside that, for each secret that was fetched and is still cached, begins with this."""


@pytest.fixture
def agent(installed: AgentProcess) -> AgentProcess:
    """What is started here is the program as it is installed."""
    return installed


def started(agent: AgentProcess, path: CodePath, backend: str) -> SecretLife:
    """An agent on a code path, with a store; unlocked."""
    agent.wrapper = scannable([])
    agent.environment = path.variables
    agent.config += f'[memory]\nbackend = "{backend}"\n[agent]\nlevel = "debug"\n'
    agent.start()
    life = SecretLife(agent)
    life.begin()
    return life


def test_nothing_is_left(agent: AgentProcess) -> None:
    """After all that an agent goes through, in memory, registers, cores, files, arguments and environment."""
    life = started(agent, CODE_PATHS[0], "memfd_secret")
    life.use(MANY)
    life.change_slots()
    keys, traces = life.keys()
    check_memory(life, {**keys, **traces}, held=set())
    check_files_arguments_environment(life, keys)
    check_core(life, {**keys, **traces})
    life.lock()
    check_memory(life, {**keys, **traces}, held=set())
    check_core(life, {**keys, **traces})


@pytest.mark.parametrize("path", CODE_PATHS, ids=str)
def test_nothing_is_left_at_any_time(agent: AgentProcess, path: CodePath) -> None:
    """On each code path: when unlocked, after one operation, after a keyslot was added, after many operations
    and when locked. What the agent needs is found, in locked memory only.
    """
    life = started(agent, path, "mlock")
    keys, traces = life.keys()
    everything = {**keys, **traces}
    life.lock()
    life.unlock()
    check_memory(life, everything, held=IN_ARENA)
    life.fetch()
    check_memory(life, everything, held=IN_ARENA | {FETCHED + "binary"})
    life.add_slot()
    keys, traces = life.keys()
    assert "private key of slot two" in keys
    check_memory(life, {**keys, **traces}, held=IN_ARENA | {FETCHED + "binary"})
    life.use(SOME)
    keys, traces = life.keys()
    everything = {**keys, **traces}
    check_memory(life, everything, held=IN_ARENA | {FETCHED + path for path in life.values | life.long})
    life.lock()
    check_memory(life, everything, held=set())
    check_core(life, everything)


@pytest.mark.parametrize("path", USUAL_PATH, ids=str)
def test_nothing_is_left_of_keys_that_were_replaced(agent: AgentProcess, path: CodePath) -> None:
    """Once there is another root key, nothing is left of those before but the master key, which goes with the
    next lock: whoever has read a record may still open it.
    """
    life = started(agent, path, "mlock")
    life.fetch()
    before, traces = life.keys()
    before = {
        f"old {name}": key for name, key in before.items() if name in IN_ARENA - {"confirmation secret"}
    }
    life.rekey()
    after, new_traces = life.keys()
    assert [name for name, key in before.items() if key in after.values()] == []
    everything = {**before, **{f"old {name}": trace for name, trace in traces.items()}, **after, **new_traces}
    held = ROOT_KEYS | {"confirmation secret", "master key 2", "old master key 1"}
    check_memory(life, everything, held=held)
    life.lock()
    check_memory(life, everything, held=set())
    life.unlock()
    life.fetch()
    check_memory(
        life, everything, held=ROOT_KEYS | {"confirmation secret", "master key 2", FETCHED + "binary"}
    )
    check_files_arguments_environment(life, {**before, **after})
    life.lock()
    check_core(life, everything)


def test_nothing_passes_through_an_object(tmp_path: Path) -> None:
    """An agent that keeps all that its interpreter ever allocated has none of it there: no value, passphrase
    or key was in an object, for however short a time.
    """
    with hurried(Hoarding(tmp_path)) as agent:
        life = started(agent, CODE_PATHS[0], "memfd_secret")
        life.lock()
        life.unlock()
        life.use(SOME)
        life.change_slots()
        keys, traces = life.keys()
        check_memory(life, {**keys, **traces}, held=set())


def test_planted_in_a_register_it_is_found(agent: AgentProcess) -> None:
    """The same checks fail of an agent that waits with a block of a value in its registers."""
    # Or it would look every few seconds whether it is to lock, and clear its registers.
    agent.config += "idle_timeout = 0\nmax_lifetime = 0\n"
    life = started(agent, CODE_PATHS[0], "memfd_secret")
    registers.wait_blocked(agent.pid)
    with registers.stopped(agent.pid):
        registers.fill(agent.pid, life.values["one block"], 16)
    with pytest.raises(AssertionError, match=r"one block.*vector registers of thread"):
        check_memory(life, {}, held=set())
    with pytest.raises(AssertionError, match=r"one block.*note 0x202"):
        check_core(life, {})


def check_memory(life: SecretLife, keys: dict[str, bytes], held: set[str]) -> None:
    """No value, passphrase, key or trace anywhere but the keys ``held``, in locked memory; in no register.

    The path of a secret is no secret: the very same search finds it, in this very process.
    """
    pid = life.agent.pid
    registers.wait_blocked(pid)
    needles = {**life.given, **keys}
    assert found_of(scan_registers(pid, list(needles.values())), needles) == {}
    found = places(pid, {**needles, "marker": life.marker.encode()})
    assert found.pop("marker")
    assert {place for where in found.values() for place in where} <= {"locked"}, found
    assert found.keys() == held


def locked_mappings(pid: int) -> list[range]:
    """The addresses of locked memory."""
    found: list[range] = []
    span = range(0)
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            span = range(int(match[1], 16), int(match[2], 16))
        elif line.startswith("VmFlags:") and " lo " in f"{line} ":
            found.append(span)
    return found


def places(pid: int, needles: dict[str, bytes]) -> dict[str, list[str]]:
    """Where needles are in readable memory: for each that was found, the mappings, "locked" among them."""
    locked = locked_mappings(pid)
    assert locked
    return {
        name: ["locked" if any(int(p.split()[0], 16) in span for span in locked) else p for p in found]
        for name, found in found_of(scan_process(pid, list(needles.values())), needles).items()
    }


def found_of(scan: Scan, needles: dict[str, bytes]) -> dict[str, list[str]]:
    """The places of each needle that has any."""
    return {name: scan.places[needle] for name, needle in needles.items() if scan.places[needle]}


def check_core(life: SecretLife, keys: dict[str, bytes]) -> None:
    """A core has none of them; but what is no secret, the path of one, is there to be found."""
    core = dump_core(life.agent.pid, life.agent.home)
    needles = {**life.given, **keys}
    scan = scan_core(core, [*needles.values(), life.marker.encode()])
    assert found_of(scan, needles) == {}
    assert scan.copies[life.marker.encode()] >= 1
    core.unlink()


def encodings(needle: bytes) -> Iterator[tuple[str, bytes]]:
    """A needle as it might have been written down."""
    yield "raw", needle
    yield "hex", needle.hex().encode()
    yield "upper hex", needle.hex().upper().encode()
    for shift in range(3):  # base64 of it within something longer, at any alignment
        aligned = needle[shift : shift + (len(needle) - shift) // 3 * 3]
        yield "base64", base64.b64encode(aligned)
        yield "base64url", base64.urlsafe_b64encode(aligned)
    text = needle.decode(errors="surrogateescape")
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON, not ASCII", json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="surrogateescape")
    yield "repr", repr(needle)[2:-1].encode()
    yield "repr of text", repr(text)[1:-1].encode(errors="surrogateescape")


def written(agent: AgentProcess, needles: dict[str, bytes]) -> list[str]:
    """Where needles are in files, arguments and environment."""
    process = Path(f"/proc/{agent.pid}")
    places = [p for p in agent.home.rglob("*") if p.is_file()] + [process / "cmdline", process / "environ"]
    return [
        f"{name} as {encoding} in {place}"
        for place in places
        for data in [place.read_bytes()]
        for name, needle in needles.items()
        for encoding, form in encodings(needle)
        if form in data
    ]


def check_files_arguments_environment(life: SecretLife, keys: dict[str, bytes]) -> None:
    """Log, database, its log, arguments and environment hold none of them in any form; a path is there."""
    files = {file.name for file in life.agent.home.rglob("*") if file.is_file()}
    assert {"log", "store.db", "store.db-wal"} <= files
    assert written(life.agent, {**life.given, **keys}) == []
    assert written(life.agent, {"marker": life.marker.encode()})
