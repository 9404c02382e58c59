"""Which processes are believed to be those of a daemon of the original."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codexd.config import resolve
from codexd.store.scaffold import NOBODY, Scaffold, find_scaffold
from tests.support.scaffold import DAEMON_ID, ScaffoldBox


@pytest.fixture
def box(tmp_path: Path) -> Iterator[ScaffoldBox]:
    made = ScaffoldBox(tmp_path)
    yield made
    made.clean_up()


def find(box: ScaffoldBox, ours: int | None = None) -> Scaffold:
    return find_scaffold(resolve({"repo_root": str(box.root)}, {}, cwd="/").paths, ours=ours)


def pids(found: Scaffold) -> tuple[int | None, int | None]:
    daemon, child = found
    return (daemon.pid if daemon else None, child.pid if child else None)


def test_where_nothing_is_recorded_nobody_is(box: ScaffoldBox) -> None:
    assert find(box) == NOBODY
    (box.state_dir / "daemon-state.json").write_bytes(b"\xff{")
    assert find(box) == NOBODY


@pytest.mark.parametrize(
    ("words", "cwd"),
    [
        (("node", "dist/index.js", "start"), "apps/codexd"),
        (("/opt/homebrew/bin/node", "apps/codexd/dist/index.js"), "."),
        (("node", "-B", "dist/index.js", "start"), "apps/codexd"),
    ],
)
def test_a_daemon_that_lives_is_found(box: ScaffoldBox, words: tuple[str, ...], cwd: str) -> None:
    box.run_daemon()
    process = box.run_daemon(*words, cwd=cwd)
    child = box.run_child()
    box.record(process.pid, child.pid)
    assert pids(find(box)) == (process.pid, child.pid)
    process.kill()
    process.wait(10)
    assert pids(find(box)) == (None, child.pid)


@pytest.mark.parametrize(
    ("words", "cwd"),
    [
        (("node", "dist/index.js", "start"), "apps/other"),
        (("python3", "dist/index.js", "-m", "codexd"), "apps/codexd"),
        (("node", "-c", "import time; time.sleep(600)", "codexd"), "apps/other"),
    ],
)
def test_another_program_with_its_pid_is_not_believed(
    box: ScaffoldBox, words: tuple[str, ...], cwd: str
) -> None:
    process = box.run_daemon(*words, cwd=cwd)
    box.record(process.pid, None)
    assert find(box) == NOBODY


def test_a_process_that_is_younger_than_the_record_is_not_believed(box: ScaffoldBox) -> None:
    process, child = box.run_daemon(), box.run_child()
    box.record(process.pid, child.pid)
    box.age(60)
    assert find(box) == NOBODY


def test_a_daemon_that_ended_in_order_is_none(box: ScaffoldBox) -> None:
    process = box.run_daemon()
    box.record(process.pid, None)
    text = (box.state_dir / "daemon-state.json").read_text()
    (box.state_dir / "daemon-state.json").write_text(text.replace("true", "false", 1))
    assert find(box) == NOBODY


def test_a_child_is_believed_by_its_mark(box: ScaffoldBox) -> None:
    child = box.run_child(mark=DAEMON_ID)
    box.record(None, child.pid, command="wrapper", args=["something", "else"])
    assert pids(find(box)) == (None, child.pid)


def test_the_child_of_another_daemon_is_not_ours_to_end(box: ScaffoldBox) -> None:
    child = box.run_child(mark="9d2a5a3e-0000-4000-8000-000000000000")
    box.record(None, child.pid)
    assert find(box) == NOBODY


@pytest.mark.parametrize("changes", [{"command": "node"}, {"args": ["app-server", "--x"]}])
def test_a_child_of_another_command_line_is_not_believed(
    box: ScaffoldBox, changes: dict[str, object]
) -> None:
    child = box.run_child()
    box.record(None, child.pid, **changes)
    assert find(box) == NOBODY


def test_the_child_of_a_daemon_of_ours_is_left_to_it(box: ScaffoldBox) -> None:
    child = box.run_child(mark=DAEMON_ID)
    box.record(None, child.pid)
    assert find(box, ours=child.pid) == NOBODY


@pytest.mark.parametrize("pid", [0, 1, -1, "our own", 2**30])
def test_odd_pids_are_nobody(box: ScaffoldBox, pid: int | str) -> None:
    number = pid if isinstance(pid, int) else os.getpid()
    box.record(number, number)
    assert find(box) == NOBODY


def test_a_process_without_a_command_line_is_not_believed(
    box: ScaffoldBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, child = box.run_daemon(), box.run_child()
    box.record(process.pid, child.pid)
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: [])
    assert find(box) == NOBODY
