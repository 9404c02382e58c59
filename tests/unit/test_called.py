"""How hints name codexd."""

from __future__ import annotations

from pathlib import Path

import pytest

from codexd.cli.called import as_called, name_of


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "co out" / ".venv" / "bin" / "codexd"
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return path


def test_whoever_has_it_on_path_types_its_name(program: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(program)
    assert name_of(str(program), str(link)) == "codexd"
    assert name_of(str(tmp_path / "codexd" / "__main__.py"), None) == "codexd"
    assert name_of(str(tmp_path / "codexd"), None) == "codexd"


def test_others_type_its_path(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_of(str(program), None) == f"'{program}'"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert name_of(str(program), None) == "~/'co out/.venv/bin/codexd'"
    monkeypatch.chdir(program.parent)
    assert name_of("codexd", "/dev/null") == "./codexd"
    monkeypatch.chdir(program.parents[2])
    assert name_of(str(program), None) == ".venv/bin/codexd"
    script = Path("ops/codexd")
    script.parent.mkdir()
    script.touch()
    assert name_of(str(program), None) == "ops/codexd"


def test_only_hints_are_changed() -> None:
    text = "codexd: `codexd start`, not `codexd-codex` or `codex`; `codexd` alone"
    told = "codexd: `ops/codexd start`, not `codexd-codex` or `codex`; `ops/codexd` alone"
    assert as_called(text, "ops/codexd") == told
