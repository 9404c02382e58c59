"""A plugin that cannot be started, or ends at once, holds up nobody and comes back."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def box(make_box: MakeBox) -> DaemonBox:
    """A daemon whose Python is a name that a test can give to something else."""
    search = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    box = make_box(*stub_flags(), env={"PYTHONPATH": search, "PYTHONSAFEPATH": "1"})
    python(box).symlink_to(os.path.realpath(sys.executable))
    box.launch(str(python(box)), "-m", "codexd", "start", *box.flags)
    box.wait_ready()
    return box


def python(box: DaemonBox) -> Path:
    return box.root / "python"


def said(box: DaemonBox) -> list[str]:
    """What the daemon said about its plugin."""
    lines = (box.root / "start.err").read_text("utf-8").splitlines()
    return [line for line in lines if "plugin" in line]


def check_it_comes_back(box: DaemonBox, reason: str) -> None:
    """Circusd lives on without a plugin, says so once, and starts another when it can."""
    before = box.wait_ready()
    plugin = box.plugin()
    plugin.kill()
    eventually(lambda: any(reason in line for line in said(box)), what="a word about the plugin")
    os.kill(before["pid"], signal.SIGKILL)
    other = str(before["pid"])
    eventually(
        lambda: box.run("ctl", "list", "codex-app-server").stdout.strip() not in ("", other),
        what="another child without a plugin",
    )
    python(box).unlink(missing_ok=True)
    python(box).symlink_to(os.path.realpath(sys.executable))
    box.wait_ready(other_than=before["pid"])
    assert len(said(box)) == 1
    box.stop_cleanly()


def test_a_python_that_is_gone(box: DaemonBox) -> None:
    python(box).unlink()
    check_it_comes_back(box, "the plugin cannot be started: No such file or directory")


def test_a_python_that_ends_at_once(box: DaemonBox) -> None:
    python(box).unlink()
    python(box).write_text("#!/bin/sh\nexit 1\n")
    python(box).chmod(0o755)
    check_it_comes_back(box, "the plugin ends soon after it was started")
