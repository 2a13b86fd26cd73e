"""The installed programs import what was installed and nothing else, whatever lies about and whatever is set.

Modules are planted wherever an ordinary Python looks; each leaves its name in a file when it is loaded.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.agent_process import PASSPHRASE, AgentProcess, poll
from tests.support.programs import KEYHOLT, KEYHOLT_AGENT
from tests.support.unharmed import KEPT, KEPT_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = (
    "sitecustomize", "usercustomize", "keyholt", "keyholt_agent", "keyholt_protocol", "msgpack", "trio",
    "resource", "_ctypes", "_socket", "argparse", "startup",
)  # fmt: skip
"""Modules of every kind that a program loads, and those that Python loads by itself."""

PLANT: Final = "open({mark!r}, 'a').write(__name__ + '\\n')\n"


class Planted:
    """A working directory and a home full of planted modules, and an environment that names them all."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "mark"
        self.folder = folder / "planted"
        home = folder / "home"
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        user_site = home / ".local" / "lib" / version / "site-packages"
        for place in (self.folder, user_site):
            place.mkdir(parents=True)
            for name in NAMES:
                (place / f"{name}.py").write_text(PLANT.format(mark=str(self.mark)))
            (place / "keyholt").mkdir()
            (place / "keyholt" / "__init__.py").write_text(PLANT.format(mark=str(self.mark)))
        (user_site / "planted.pth").write_text(f"import sys; {PLANT.format(mark=str(self.mark)).strip()}\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(self.folder),
            "PYTHONSTARTUP": str(self.folder / "startup.py"),
            "PYTHONUSERBASE": str(home / ".local"),
            "PYTHONINSPECT": "1",
            "PYTHONWARNINGS": "error",
            "PYTHONBREAKPOINT": "startup.hook",
        }

    def loaded(self) -> set[str]:
        """The planted modules that have been loaded since this was asked before."""
        names = set(self.mark.read_text().split()) if self.mark.exists() else set[str]()
        self.mark.unlink(missing_ok=True)
        return names

    def run(
        self, *words: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program among all that."""
        return subprocess.run(
            words,
            input=stdin,
            env={**self.environment, **(environment or {})},
            cwd=self.folder,
            capture_output=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """A fresh one."""
    return Planted(tmp_path)


def test_an_ordinary_python_falls_for_it(planted: Planted) -> None:
    """The control: what is planted is found from the path, and from the user's own packages."""
    planted.run(sys.executable, "-S", "-c", "import keyholt, resource")
    assert {"keyholt", "resource"} <= planted.loaded()
    planted.environment.pop("PYTHONPATH")
    base = str(Path(sys.base_prefix) / "bin" / "python3")  # a virtual environment looks at no user's packages
    planted.run(base, "-c", "pass")
    assert {"usercustomize", "__main__"} & planted.loaded()


@pytest.mark.parametrize(
    "words", [["get", "k"], ["status"], ["--version"], ["run", "--", "true"], ["doctor"]]
)
def test_the_command_line(planted: Planted, shared: AgentProcess, words: list[str]) -> None:
    """The fast path and the full one."""
    done = planted.run(KEYHOLT, *words, environment={"KEYHOLT_ADDRESS": str(shared.socket_path)})
    assert planted.loaded() == set()
    assert b"Traceback" not in done.stderr
    assert done.returncode in ({3} if words[0] == "get" else {0})


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_a_home_of_python_s_own_that_is_planted(planted: Planted, home: str) -> None:
    """PYTHONHOME is not followed either: the standard library is the interpreter's."""
    done = planted.run(
        KEYHOLT, "--version", environment={"PYTHONHOME": home or str(planted.folder), "PYTHONPLATLIBDIR": "x"}
    )
    assert (done.returncode, planted.loaded()) == (0, set())


def test_the_agent(planted: Planted, tmp_path: Path) -> None:
    """From its start to its end, with a store, and told apart from other programs by its name."""
    socket, state = tmp_path / "run" / "agent.sock", tmp_path / "state"
    with subprocess.Popen(
        [KEYHOLT_AGENT, "--socket", str(socket), "--state-dir", str(state)],
        env=planted.environment,
        cwd=planted.folder,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            poll(lambda: socket.exists() or process.poll() is not None)
            address = {"KEYHOLT_ADDRESS": str(socket)}
            made = planted.run(KEYHOLT, "init", "--passphrase-fd", "0", stdin=PASSPHRASE, environment=address)
            assert made.returncode == 0, made.stderr
            told = planted.run(KEYHOLT, "--json", "status", environment=address).stdout
            assert json.loads(told)["pid"] == process.pid  # the shell has become it
            assert Path(f"/proc/{process.pid}/comm").read_text() == "keyholt-agent\n"
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert planted.loaded() == set()


@pytest.mark.parametrize("module", ["keyholt", "keyholt_agent"])
def test_started_as_a_module(planted: Planted, module: str) -> None:
    """With -I it is the program; without, it is refused: others have had their say by then."""
    isolated = planted.run(sys.executable, "-I", "-m", module, "--version")
    assert (isolated.returncode, planted.loaded()) == (0, set())
    where = os.pathsep.join(str(ROOT / room) for room in ("agent", "protocol", "client"))
    planted.run(sys.executable, "-m", module, "--version", environment={"PYTHONPATH": where})
    assert {module, "__main__"} & planted.loaded()  # the control: the working directory has one of that name
    inside = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        env={"PYTHONPATH": where}, cwd="/", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (inside.returncode, inside.stderr.count(b"\n")) == (2, 1)
    assert f"python -I -m {module}".encode() in inside.stderr


def links(folder: Path) -> dict[str, Sequence[str]]:
    """Ways to call the command line: what to run, from ``folder``."""
    programs = Path(KEYHOLT).parent
    (folder / "absolute").symlink_to(KEYHOLT)
    (folder / "relative").symlink_to(os.path.relpath(KEYHOLT, folder))
    (folder / "twice").symlink_to("relative")
    (folder / "bin").symlink_to(programs)
    (folder / "with space").mkdir()
    (folder / "with space" / "key'holt").symlink_to(KEYHOLT)
    return {
        "as it is": [KEYHOLT],
        "a link": [str(folder / "absolute")],
        "a relative link": ["./relative"],
        "a link to a link": [str(folder / "twice")],
        "a link to its folder": [str(folder / "bin" / "keyholt")],
        "a name with blanks": [str(folder / "with space" / "key'holt")],
        "by the path": ["env", f"PATH={folder}/bin:{os.environ['PATH']}", "keyholt"],
        "a link by the path": ["env", f"PATH={folder}:{os.environ['PATH']}", "twice"],
        "by a shell": ["sh", KEYHOLT],
        "by Python": [sys.executable, "-I", KEYHOLT],
    }


def test_every_way_to_call_it(planted: Planted, tmp_path: Path) -> None:
    """Links of all kinds, blanks in a name, a shell: the interpreter beside the file itself runs it."""
    (tmp_path / "links").mkdir()
    planted.folder = tmp_path / "links"  # where it is called from; the path still names what is planted
    for way, words in links(tmp_path / "links").items():
        done = planted.run(*words, "--version")
        told = done.returncode, done.stdout[:8], done.stderr, planted.loaded()
        assert told == (0, b"keyholt ", b"", set()), way


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_arguments_arrive_as_they_were_given(shared: AgentProcess, shell: str) -> None:
    """Blanks, quotes, nothing, line ends and bytes that are no text pass the shell unchanged."""
    words = [b"a b", b"'", b'"$HOME"', b"", b"*", b"-n", b"x\ny", b"\xff\xfe", b"`id`"]
    script = b'printf "%s\\0" "$@"'
    command = [shell.encode(), KEYHOLT.encode(), b"run", b"--", b"sh", b"-c", script, b"sh", *words]
    done = subprocess.run(
        command, capture_output=True, timeout=60, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert done.stdout.split(b"\0")[:-1] == words


def test_nothing_beside_it(tmp_path: Path) -> None:
    """A copy without an interpreter beside it takes the system's, and says so if Keyholt is not there."""
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / "keyholt"
    copy.write_bytes(Path(KEYHOLT).read_bytes())
    copy.chmod(0o755)
    done = subprocess.run([str(copy), "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("keyholt: ")
    assert done.stderr.count("\n") == 1
    assert "virtual environment" in done.stderr


def test_installed_from_a_wheel(tmp_path: Path, planted: Planted, shared: AgentProcess) -> None:
    """An installer leaves the programs as they are, and the fast path needs nothing of `site`.

    What is left to be run at every start by another package in that environment is not, until it is needed.
    """
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=60)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("keyholt-*.whl")
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=120, capture_output=True)
    for name in ("keyholt", "keyholt-agent"):
        program, source = environment / "bin" / name, Path(KEYHOLT).with_name(name)
        assert program.read_bytes() == source.read_bytes()
        assert os.access(program, os.X_OK)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "other.pth").write_text(f"import sys; {PLANT.format(mark=str(planted.mark)).strip()}\n")
    (packages / "others.pth").write_text(site.getsitepackages()[0] + "\n")
    address = {"KEYHOLT_ADDRESS": str(shared.socket_path)}
    ran = planted.run(str(environment / "bin" / "keyholt"), "run", "--", "true", environment=address)
    assert (ran.returncode, ran.stderr, planted.loaded()) == (0, b"", set())
    start = [str(python), "-I", "-S", "-X", "importtime"]
    for words, output in ((["get", KEPT_PATH], KEPT), (["run", "--", "true"], b"")):
        done = planted.run(*start, str(environment / "bin" / "keyholt"), *words, environment=address)
        assert (done.returncode, done.stdout, planted.loaded()) == (0, output, set())
        imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
        assert b"keyholt.cli.entry" in imported
        assert not imported & {b"os", b"site", b"ctypes", b"warnings"}  # 1.5, 3, 2 and 1 ms
    status = planted.run(str(environment / "bin" / "keyholt"), "status", environment=address)
    assert (status.returncode, status.stderr) == (0, b"")
    assert planted.loaded() == {"site"}  # the control: it is found once packages are looked for
    served = planted.run(*start, str(environment / "bin" / "keyholt-agent"), "--version")
    order = [line.rpartition(b"|")[2].strip() for line in served.stderr.splitlines()]
    assert order.index(b"keyholt_agent.hardening") < order.index(b"site") < order.index(b"trio")
    served = planted.run(str(environment / "bin" / "keyholt-agent"), "--version")
    assert (served.returncode, served.stderr) == (0, b"")
