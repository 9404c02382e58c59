"""A repository may have a json.py of its own: Python must not take it for the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import ROOT


def codexd(repo: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run codexd as its script does: the directory it is run in is not searched for modules."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BAA_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "codexd", *args],
        cwd=repo,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_codexd_runs_in_a_repository_with_a_json_py(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the real one')\n")
    server = ["--mode", "exec", "--server-command", "sleep", "--server-arg", "1000"]
    start = codexd(tmp_path, "start", "--detach", *server)
    try:
        assert start.returncode == 0, start.stderr
        shown = codexd(tmp_path, "ctl", "status")
        assert "plugin:codexd: active" in shown.stdout, shown.stderr
        # Written by the plugin, which circus starts.
        assert "child=running" in codexd(tmp_path, "status").stdout
    finally:
        stop = codexd(tmp_path, "stop")
    assert stop.stdout == "codexd stopped\n"
