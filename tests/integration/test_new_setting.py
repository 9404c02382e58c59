"""A setting is one row: added to the table, it is everywhere that settings are."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANCHOR = "    health_misses: Annotated["
ROW = '    tea_ms: Annotated[int, _number(7, "How long tea draws.")]\n'
AS_THE_PLUGIN = """
from circus.config import get_config
from codexd.settings_ini import read_plugin_settings
(section,) = get_config("circus.ini")["plugins"]
print(read_plugin_settings(section).policy.tea_ms)
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one row more."""
    root = tmp_path_factory.mktemp("changed")
    for name in ("codexd", "templates", "tests/support", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests/__init__.py").touch()
    settings = root / "codexd/settings.py"
    text = settings.read_text()
    assert text.count(ANCHOR) == 1
    settings.write_text(text.replace(ANCHOR, ROW + ANCHOR))
    return root


def run(changed: Path, *words: str, **environ: str) -> str:
    command = [sys.executable, "-P", "-m", *words]
    env = {**os.environ, "PYTHONPATH": str(changed), "HOME": str(changed), **environ}
    done = subprocess.run(command, cwd=changed, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_in_the_help(changed: Path) -> None:
    assert "--tea-ms INTEGER" in run(changed, "codexd", "help", "settings")


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_it_is_read_from(changed: Path, how: str) -> None:
    file = changed / "x.toml"
    file.write_text("tea_ms = 9\n")
    file.chmod(0o600)
    flags = {"flag": ["--tea-ms", "9"], "file": ["--config", str(file)]}.get(how, [])
    environ = {"BAA_CODEXD_TEA_MS": "9"} if how == "environment" else {}
    told = json.loads(
        run(changed, "codexd", "config", "--json", "--show-origin", *flags, **environ)
    )
    assert told["policy"]["teaMs"] == 9
    assert told["origins"]["tea_ms"] in ("--tea-ms", "BAA_CODEXD_TEA_MS", f"{file}: tea_ms")


def test_it_is_in_ini_plist_and_unit(changed: Path) -> None:
    flags = ("--tea-ms", "9")
    ini = run(changed, "codexd", "render-circus", *flags)
    assert "tea-ms = 9\n" in ini
    (changed / "circus.ini").write_text(ini)
    (changed / "as_the_plugin.py").write_text(AS_THE_PLUGIN)
    assert run(changed, "as_the_plugin") == "9\n"
    plist = plistlib.loads(run(changed, "codexd", "render-plist", *flags).encode())
    assert plist["EnvironmentVariables"]["BAA_CODEXD_TEA_MS"] == "9"
    assert "BAA_CODEXD_TEA_MS=9" in run(changed, "codexd", "render-systemd", *flags)


def test_it_is_on_the_page(changed: Path) -> None:
    run(changed, "tests.support.make_reference")
    page = (changed / "docs/reference/configuration.md").read_text()
    assert (
        "| `--tea-ms INTEGER` | `BAA_CODEXD_TEA_MS` | `tea_ms` | 7 | How long tea draws. |" in page
    )
