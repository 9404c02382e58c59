"""What keeps a start from starting: one clear line, a non-zero exit, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBox
from tests.support.codex import codex_path
from tests.support.daemon import DaemonBox
from tests.support.waiting import eventually


def refused(box: DaemonBox, *flags: str) -> tuple[int, str]:
    """The exit code and the one line of a start that is refused."""
    done = box.run("start", *flags)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("codexd: ")
    box.wait_for_nobody()
    return done.returncode, line


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--server-command", "no-such"), '"no-such" is not on PATH'),
        (("--server-command", "./no-such"), '"./no-such" is not an executable file'),
        (("--server-command", "/etc/passwd"), '"/etc/passwd" is not an executable file'),
        (("--server-command", "/etc"), '"/etc" is not an executable file'),
        (("--server-cwd", "/no/place"), '"/no/place" does not exist'),
        (("--server-cwd", "/etc/passwd"), '"/etc/passwd" is no directory'),
    ],
)
def test_a_child_that_cannot_be_started(
    make_box: MakeBox, flags: tuple[str, ...], named: str
) -> None:
    box = make_box()
    _, line = refused(box, *flags)
    assert named in line
    # It is on record as the reference has it.
    types = [event["type"] for event in box.events()]
    assert types == ["daemon.started", "child.spawn.failed", "daemon.stopped"]
    assert named in box.events("child.spawn.failed")[0]["message"]
    assert not os.path.exists(box.config.runtime.runtime_dir)
    state = box.read("daemon-state.json")
    assert state is not None
    assert (state["started"], state["child"]["status"]) == (False, "failed")
    assert named in state["child"]["lastError"]
    assert " daemon=stopped child=failed " in box.run("status").stdout
    # Nothing is left that keeps the next start from running.
    assert refused(box, *flags)[1] == line


@pytest.mark.parametrize("which", ["logs", "state"])
def test_a_file_in_place_of_a_directory(make_box: MakeBox, which: str) -> None:
    box = make_box()
    (box.root / which).write_text("not a directory")
    code, line = refused(box)
    assert code == 1
    assert f'"{box.root / which / "codexd"}" cannot be used' in line


def read_only(directory: Path) -> bool:
    """Make a directory read-only even for root, where this system lets us."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(directory)], capture_output=True
    )
    return done.returncode == 0


@pytest.mark.parametrize("which", ["logs", "state"])
def test_a_directory_that_cannot_be_written(make_box: MakeBox, which: str) -> None:
    box = make_box()
    place = box.root / which
    place.mkdir()
    if os.getuid() != 0:
        place.chmod(0o500)
    elif not read_only(place):
        pytest.skip("root may write everywhere, and mount(8) is not allowed here")
    try:
        code, line = refused(box)
        assert code == 1
        assert f'"{place / "codexd"}" cannot be used' in line
        detached = box.run("start", "--detach")
        assert detached.returncode == 1
        assert len(detached.stderr.splitlines()) == 1
        assert str(place) in detached.stderr
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--server-endpoint", "tcp://1.2.3.4"), '"tcp://1.2.3.4"'),
        (("--server-endpoint", "ws://localhost:80"), '"ws://localhost:80"'),
        (("--server-endpoint", f"unix:///{'x' * 120}"), "too long"),
        (("--mode", "both"), '"both"'),
        (("--server-strategy", "none"), '"none"'),
        (("--restart-limit", "many"), '"many"'),
        (("--no-such-flag",), '"--no-such-flag"'),
    ],
)
def test_a_value_that_cannot_be_used(make_box: MakeBox, flags: tuple[str, ...], named: str) -> None:
    box = make_box()
    code, line = refused(box, *flags)
    assert code == 2
    assert named in line
    assert not box.state_dir.exists()


def test_an_unknown_command_is_named(make_box: MakeBox) -> None:
    done = make_box().run("begin", flags=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ['codexd: Unknown codexd action "begin": see codexd --help.']


@pytest.mark.real
def test_a_program_that_goes_away_is_started_once_it_is_back(make_box: MakeBox) -> None:
    box = make_box("--restart-backoff-ms", "50", "--restart-backoff-max-ms", "100")
    program = box.root / "codex"
    program.symlink_to(codex_path())
    box.start("--server-command", str(program))
    first = box.wait_ready()
    program.unlink()
    os.kill(first["pid"], signal.SIGKILL)
    failed = eventually(lambda: _failed_to_spawn(box), what="the failure on record")
    assert f'"{program}" is not an executable file' in failed["lastError"]
    # It is tried again and again, each try on record, and nothing else is disturbed.
    eventually(lambda: len(box.events("child.spawn.failed")) >= 2, what="another try")
    assert " daemon=running child=failed " in box.run("status").stdout
    program.symlink_to(codex_path())
    after = box.wait_ready(other_than=first["pid"])
    assert (after["lastError"], after["nextRestartAt"]) == (None, None)
    box.stop_cleanly()


def test_a_file_that_is_no_program(make_box: MakeBox) -> None:
    box = make_box("--restart-backoff-ms", "50")
    program = box.root / "program"
    program.write_bytes(b"\x00\x01 no program")
    program.chmod(0o700)
    box.start("--server-command", str(program), wait=False)
    failed = eventually(lambda: _failed_to_spawn(box), what="the failure on record")
    assert failed["lastError"] == f"Exec format error: {program}"
    eventually(lambda: "not ready yet" in box.errors(), what="a word on stderr")
    box.stop_cleanly()
    assert "Traceback" not in box.errors()


def _failed_to_spawn(box: DaemonBox) -> dict[str, Any] | None:
    child = box.child()
    is_it = child is not None and child["status"] == "failed" and box.events("child.spawn.failed")
    return child if is_it and child is not None and child["nextRestartAt"] else None
