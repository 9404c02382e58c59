"""Which programs named codex lead back to codexd."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from codexd.child.command import CommandNotFound, locate
from codexd.child.shim import leads_back
from tests.support.checkout import ROOT

SHIMS = [
    'exec codexd app-server "$@"',
    "exec codexd attach",
    '[ "$1" = app-server ] && exec codexd "$@"',
    'exec "$HOME/.venv/bin/codexd-codex" "$@"',
    "exec /opt/venv/bin/codexd-codex ${1+$@}",
    "exec python3 -m codexd app-server",
    "from codexd.cli.main import main",
]
OTHERS = [
    'exec /opt/codex/bin/codex "$@"',
    'exec /opt/codexd-tools/codex "$@"',
    'cd /home/me/codexd && exec ./codex "$@"',
    '# run by codexd "$@"\nexec codex.real "$@"',
    'exec env CODEXD=1 codex.real "$@"',
]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("text", SHIMS)
def test_a_script_that_runs_codexd_leads_back(tmp_path: Path, text: str) -> None:
    assert leads_back(str(script(tmp_path / "codex", text)))


@pytest.mark.parametrize("text", OTHERS)
def test_any_other_script_does_not(tmp_path: Path, text: str) -> None:
    assert not leads_back(str(script(tmp_path / "codex", text)))


@pytest.mark.parametrize("name", ["codexd", "codex-shim"])
def test_our_own_programs_lead_back_by_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "codex").symlink_to(ROOT / "ops" / name)
    assert leads_back(str(tmp_path / "codex"))


def test_a_program_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "codex").write_bytes(b"\x7fELF codexd app-server")
    assert not leads_back(str(tmp_path / "codex"))
    assert not leads_back(str(tmp_path))
    assert not leads_back(str(tmp_path / "none"))


def test_a_shim_on_path_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "a/codex", SHIMS[0])
    real = script(tmp_path / "b/codex", OTHERS[0])
    environ = {"PATH": f"{tmp_path}/a:{tmp_path}/b"}
    assert locate("codex", cwd="/", environ=environ) == str(real)


def test_where_there_is_nothing_but_shims_it_is_said(tmp_path: Path) -> None:
    shim = script(tmp_path / "a/my-codex", SHIMS[2])
    for command in ("my-codex", str(shim)):
        with pytest.raises(CommandNotFound, match="--server-command") as caught:
            locate(command, cwd="/", environ={"PATH": f"{tmp_path}/a"})
        assert str(shim) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_empty_entry_of_path_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real = script(tmp_path / "tool", "true")
    found = locate("tool", cwd="/", environ={"PATH": ":/usr/bin"})
    assert os.path.samefile(found, real)
    assert os.path.isabs(found)


def test_where_nothing_can_be_opened_a_shim_is_not_taken_for_codex(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = script(tmp_path / "codex", SHIMS[0])

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            locate("codex", cwd="/", environ={"PATH": str(shim.parent)})
