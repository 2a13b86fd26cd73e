"""``make demo``: the main job on real input, told as it goes; fails on the first thing that does not hold."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

import keyholt
import keyholt.asyncio
import keyholt.trio
import sample
from stage import DemoError, Stage, require, say, step

PREFIX: Final = "shop/prod"
LOCKED: Final = 4
"""Exit status of ``keyholt`` when the agent is locked."""


def main() -> int:
    """Run the demonstration in a fresh directory that is removed afterwards."""
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="keyholt-demo-") as directory:
        try:
            with Stage(Path(directory), programs) as stage:
                demonstrate(stage)
        except (DemoError, keyholt.KeyholtError) as error:
            print(f"\ndemo failed: {error}", file=sys.stderr)
            return 1
    print("\nEverything held. The directory of the demonstration is gone again.")
    return 0


def demonstrate(stage: Stage) -> None:
    """Every step, in order."""
    values = sample.variables()
    keystore = sample.keystore()
    passphrase = stage.directory / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(secrets.token_urlsafe(16) + "\n")

    step("1. Start the agent in a fresh directory and create its store")
    stage.start_agent()
    say(stage.run("init", "--passphrase-file", "passphrase").stdout.decode())

    step("2. Import an application's .env and a 1 MiB keystore")
    import_secrets(stage, values, keystore)

    step("3. Fetch them back by command line, by library, and into a program's environment")
    fetch_all(stage, values, keystore)

    step("4. Lock: nothing is given out any more")
    refuse_when_locked(stage)

    step("5. Unlock with the passphrase")
    say(stage.run("unlock", "--passphrase-file", "passphrase").stdout.decode())
    by_command_line(stage, values, keystore)

    step("6. Restart the agent: it starts locked, and the secrets are the same")
    stage.stop_agent()
    stage.start_agent()
    refuse_when_locked(stage, lock_first=False)
    stage.run("unlock", "--passphrase-file", "passphrase")
    fetch_all(stage, values, keystore)


def import_secrets(stage: Stage, values: dict[str, str], keystore: bytes) -> None:
    """Bring the input in; afterwards ``app.env`` holds only references."""
    sample.write_env_file(stage.directory / "shop.env", values)
    (stage.directory / "shop.p12").write_bytes(keystore)
    stage.run("import", "shop.env", PREFIX, "--references", "app.env")
    stage.run("put", f"{PREFIX}/keystore", "--file", "shop.p12")
    (stage.directory / "shop.env").unlink()
    (stage.directory / "shop.p12").unlink()
    references = (stage.directory / "app.env").read_text("utf-8").splitlines()
    say("app.env, which may be committed, begins:")
    say("\n".join(f"  {line}" for line in references[:3]))
    lines = [line for line in references if line and not line.startswith("#")]
    require(all("keyholt://" in line for line in lines), f"all {len(lines)} lines of app.env are references")
    listed = stage.run("list", f"{PREFIX}/").stdout.decode().splitlines()
    require(len(listed) == len(values) + 1, f"{len(listed)} secrets are listed under {PREFIX}/")


def fetch_all(stage: Stage, values: dict[str, str], keystore: bytes) -> None:
    """Fetch everything in every way."""
    by_command_line(stage, values, keystore)
    by_library(stage, values, keystore)
    by_environment(stage, values)


def by_command_line(stage: Stage, values: dict[str, str], keystore: bytes) -> None:
    """Fetch with ``keyholt get``."""
    got = {name: stage.run("get", f"{PREFIX}/{name}", quiet=True).stdout.decode() for name in values}
    require(got == values, f"keyholt get gives back all {len(values)} variables to the byte")
    fetched = stage.run("get", f"{PREFIX}/keystore").stdout
    require(fetched == keystore, f"and the keystore, {len(fetched):,} bytes")


def by_library(stage: Stage, values: dict[str, str], keystore: bytes) -> None:
    """Fetch with the blocking, the trio and the asyncio client."""
    address = str(stage.socket)
    with keyholt.connect(address) as agent:
        got = {name: agent.get(f"{PREFIX}/{name}").text for name in values}
        same = agent.get(f"{PREFIX}/keystore").bytes == keystore
    require(got == values and same, "keyholt.connect(): the same, blocking")
    require(
        trio.run(_with_trio, address, list(values)) == values, "keyholt.trio.connect(): the same, with trio"
    )
    require(
        asyncio.run(_with_asyncio(address, list(values))) == values,
        "keyholt.asyncio.connect(): the same, with asyncio",
    )


def by_environment(stage: Stage, values: dict[str, str]) -> None:
    """Fetch into the environment of a program."""
    app = str(Path(__file__).with_name("app.py"))
    program = ("--", sys.executable, app)
    said = stage.run("run", "--env-file", "app.env", tail=program).stdout.decode().strip()
    say(said)
    require(sample.digest_of(values) in said, "the program found every value in its environment")


def refuse_when_locked(stage: Stage, *, lock_first: bool = True) -> None:
    """Require that a locked agent gives nothing out."""
    if lock_first:
        stage.run("lock")
    refused = stage.run("get", f"{PREFIX}/SHOP_SECRET_KEY", check=False)
    say(refused.stderr.decode().strip())
    require(refused.returncode == LOCKED and not refused.stdout, f"a fetch is refused, exit status {LOCKED}")


async def _with_trio(address: str, names: list[str]) -> dict[str, str]:
    got: dict[str, str] = {}

    async with keyholt.trio.connect(address) as agent:

        async def fetch(name: str) -> None:
            got[name] = (await agent.get(f"{PREFIX}/{name}")).text

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(fetch, name)
    return got


async def _with_asyncio(address: str, names: list[str]) -> dict[str, str]:
    async with keyholt.asyncio.connect(address) as agent:
        secrets_ = await asyncio.gather(*(agent.get(f"{PREFIX}/{name}") for name in names))
    return {name: secret.text for name, secret in zip(names, secrets_, strict=True)}


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
