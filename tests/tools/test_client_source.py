"""The generated files of the client: they are what the registry says, and the generator renders it."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import keyholt
from keyholt import async_methods, methods
from keyholt_protocol import messages as m
from keyholt_protocol.errors import ErrorCode
from keyholt_protocol.operations import OPERATIONS, SECRET_DELETE, STORE_INIT, Operation
from tools import client_methods, client_source
from tools.client_source import files, main

ROOT = Path(__file__).parents[2]
DELETE: Operation[Any, Any] = SECRET_DELETE


def test_the_files_are_what_the_registry_says() -> None:
    """What is in the tree would be written now; the tool, run alone, says so too."""
    assert {name: (client_methods.CLIENT / name).read_text("utf-8") for name in files()} == files()
    subprocess.run([sys.executable, ROOT / "tools/client_source.py", "--check"], check=True, timeout=60)


def test_drift_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing or differs is named; writing them settles the matter."""
    wanted = files()
    monkeypatch.setattr(client_source, "CLIENT", tmp_path)
    assert main(["--check"]) == 1
    assert all(f"/{name} is not" in capsys.readouterr().err for name in ("methods.py",))
    assert main([]) == 0
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == wanted
    assert main(["--check"]) == 0
    (tmp_path / "public.py").write_text(wanted["public.py"].replace('"get",', ""), "utf-8")
    assert main(["--check"]) == 1
    assert "/public.py is not" in capsys.readouterr().err
    assert main(["--chekc"]) == 2


def test_a_change_of_the_registry_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary, an error or a result that changes makes the files out of date."""
    before = files()
    for changed in (
        dataclasses.replace(DELETE, summary="Hides."),
        dataclasses.replace(DELETE, errors={ErrorCode.NOT_FOUND: "there is none"}),
        dataclasses.replace(DELETE, result=m.SecretPutResult),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(OPERATIONS, "secret.delete", changed)
            assert files()["methods.py"] != before["methods.py"]
            assert files()["async_methods.py"] != before["async_methods.py"]
    assert files() == before


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SecretRenameRequest:
    """``path``: what it is called. ``new``: what it is to be called. ``force``: over one that is there."""

    path: str
    new: str
    force: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SecretRenameResult:
    """``info``: of the new one."""

    info: tuple[m.SecretInfo, ...] = ()


def renaming(**changes: Any) -> Operation[Any, Any]:
    """An operation that there is not."""
    made = dataclasses.replace(
        DELETE,
        name="secret.rename",
        summary="Gives a secret another path.",
        request=SecretRenameRequest,
        result=SecretRenameResult,
        errors={ErrorCode.ALREADY_EXISTS: "there is one at `new`", ErrorCode.LOCKED: "it is locked"},
    )
    return dataclasses.replace(made, **changes)


RENAME = '''
    {kind} rename(
        self,
        path: str,
        *,
        new: str,
        force: bool = False,
        timeout: float | None = None,
    ) -> m.SecretRenameResult:
        """Gives a secret another path.

        Args:
            path: what it is called.
            new: what it is to be called.
            force: over one that is there.

        Raises:
            AlreadyExistsError: there is one at ``new``.
        """
        request = request_of(m.SecretRenameRequest, path=path, new=new, force=force)
        invocation = invocation_of(ops.SECRET_RENAME, request)
        return {wait}self.perform(invocation, timeout)
'''


def test_an_operation_becomes_a_method_of_both_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters and docstring follow from its messages and its descriptor, and its result is public."""
    monkeypatch.setattr(m, "SecretRenameResult", SecretRenameResult, raising=False)
    monkeypatch.setitem(OPERATIONS, "secret.rename", renaming())
    made = files()
    assert RENAME.format(kind="def", wait="") in made["methods.py"]
    assert RENAME.format(kind="async def", wait="await ") in made["async_methods.py"]
    assert '    "SecretRenameResult",\n' in made["public.py"]


def test_a_payload_is_a_parameter_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes first among those that are given by name, and is described as the registry does."""
    operation = renaming(payload="a note, for people", payload_name="note", max_payload=9)
    monkeypatch.setattr(m, "SecretRenameResult", SecretRenameResult, raising=False)
    monkeypatch.setitem(OPERATIONS, "secret.rename", operation)
    text = files()["methods.py"]
    assert "        *,\n        note: Value,\n        new: str,\n" in text
    assert "            note: a note, for people.\n            path: what it is called.\n" in text
    assert "invocation_of(ops.SECRET_RENAME, request, note)" in text


def test_what_cannot_be_a_parameter_needs_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field whose default is made anew each time has no form in a signature; the error names the remedy."""
    monkeypatch.setitem(OPERATIONS, "secret.rename", renaming(request=m.SecretGetResult))
    with pytest.raises(NotImplementedError, match=r"secret\.rename needs a function in keyholt\.invocations"):
        files()


def test_every_operation_for_programs_is_asked_for() -> None:
    """Each of the registry but the greeting, by one method at least, of both clients."""
    for module in (methods, async_methods):
        text = ast.parse(Path(module.__file__ or "").read_text("utf-8"))
        written = ast.parse((client_methods.CLIENT / "invocations.py").read_text("utf-8"))
        named = {
            node.attr
            for tree in (text, written)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ops"
        }
        assert {name.replace(".", "_").upper() for name in OPERATIONS} <= named
    assert {(method.domain, method.name) for method in client_methods.methods()} >= {
        tuple(name.split(".")) for name in OPERATIONS if not name.startswith("session.")
    }


def test_documentation_reaches_the_user() -> None:
    """``help(keyholt.Client.init)`` says what the registry says of the operation and its errors."""
    text = keyholt.Client.init.__doc__ or ""
    assert STORE_INIT.summary in text
    assert "AlreadyExistsError: there is a store already." in text
