"""What a dead daemon leaves behind, and that nothing else is ever touched."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from codexd.child import family
from codexd.child import steps as supervision
from codexd.platform.process import ProcessId
from tests.conftest import MakeBox
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.faults import check_sound, freeze, lives, wait_gone, wait_stderr
from tests.support.model import ModelServer, Reply
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

STOP_SOON = "--stop-timeout-ms=200"
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="the parent-death signal is Linux's"
)


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process of this user that has nothing to do with codexd, in a group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        yield psutil.Process(process.pid)
        process.kill()


def kill_daemon(box: DaemonBox) -> None:
    """SIGKILL circusd alone."""
    assert box.process is not None
    box.note_processes()
    box.process.kill()
    box.process.wait(10)


def grandchild_of(box: DaemonBox) -> int:
    """The pid that the stub told."""
    return int(wait_stderr(box, r"grandchild (\d+)\n")[1])


@linux_only
def test_child_and_plugin_end_with_circusd(make_box: MakeBox) -> None:
    # A child that ignores SIGTERM must not live on either.
    box = make_box(*stub_flags("ignore_term", "grandchild"), STOP_SOON)
    box.start()
    check_sound(box)
    grandchild = grandchild_of(box)
    kill_daemon(box)
    eventually(lambda: not box.leftovers(), what="the end of every process")
    assert not lives(grandchild)
    assert " daemon=stopped child=failed " in box.run("status").stdout
    state = box.read("daemon-state.json")
    assert state is not None
    assert state["child"]["lastError"] == "The daemon was killed, and the child with it."
    box.start()
    check_sound(box)


@linux_only
def test_a_child_that_outlives_its_daemon_is_told_and_ended_by_the_next_start(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags("outlive", "ignore_term", "grandchild"), STOP_SOON)
    box.start()
    pid = check_sound(box)["pid"]
    grandchild = grandchild_of(box)
    # A stopped plugin cannot end it, as there is none on the side of a power cut.
    plugin = box.plugin()
    freeze(plugin)
    kill_daemon(box)
    plugin.kill()
    wait_gone(plugin.pid)
    assert lives(pid)
    told = box.run("status").stdout
    assert f"the server (pid {pid}) lives without its daemon" in told
    box.start()
    check_sound(box, other_than=pid)
    assert not lives(pid)
    assert not lives(grandchild)
    assert f"ending process {pid}, left behind by an earlier daemon" in box.errors()


def test_what_is_left_of_a_dead_childs_group_is_ended_by_the_next_start(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("grandchild"))
    box.start()
    pid = check_sound(box)["pid"]
    grandchild = grandchild_of(box)
    for process in (box.plugin().pid, box.processes()[0].pid, pid):
        os.kill(process, signal.SIGKILL)
    wait_gone(pid)
    assert lives(grandchild)
    box.start()
    wait_gone(grandchild)
    check_sound(box)


def test_a_plugin_that_is_stopped_is_no_obstacle_to_the_next_start(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    box.start()
    plugin = box.plugin()
    freeze(plugin)
    kill_daemon(box)
    box.start()
    check_sound(box)
    assert not lives(plugin.pid)


@pytest.mark.parametrize("claims_group", [False, True])
def test_whoever_has_the_pid_now_is_left_alone(
    make_box: MakeBox, bystander: psutil.Process, claims_group: bool
) -> None:
    box = make_box(*stub_flags())
    box.start()
    check_sound(box)
    box.stop_cleanly()
    path = supervision.path_of(box.config.paths.state_dir)
    record = supervision.load(path)
    # As if the pid had been given to the bystander since.
    record.child = ProcessId(bystander.pid, "boot:1")
    supervision.save(path, record)
    if claims_group:
        # And as if its group were all that is left: it bears no mark of this daemon.
        record.child = ProcessId(os.getpgid(bystander.pid), "boot:1")
        supervision.save(path, record)
    box.start()
    check_sound(box)
    assert bystander.is_running()
    box.stop_cleanly()
    assert bystander.is_running()


def test_a_lock_that_names_a_living_process_is_free_if_nobody_holds_it(
    make_box: MakeBox, bystander: psutil.Process
) -> None:
    box = make_box(*stub_flags())
    box.state_dir.mkdir(parents=True)
    lock = Path(box.config.runtime.lock_path)
    lock.write_bytes(msgspec.json.encode(ProcessId(bystander.pid, "boot:1")))
    assert " daemon=stopped " in box.run("status").stdout
    assert box.run("stop").stdout == "codexd is not running\n"
    box.start()
    check_sound(box)
    assert bystander.is_running()


def helpers_of(box: DaemonBox, count: int) -> list[int]:
    """The pids that as many stubs told, one of each."""

    def look() -> list[int] | None:
        with contextlib.suppress(FileNotFoundError):
            told = re.findall(rb"helper (\d+)\n", (box.logs_dir / "stderr.log").read_bytes())
            return list(map(int, told)) if len(told) == count else None
        return None

    return eventually(look, what=f"{count} helpers")


@linux_only
def test_what_a_server_started_in_groups_of_its_own_ends_with_it(make_box: MakeBox) -> None:
    box = make_box(*stub_flags("helper", "ignore_term"), STOP_SOON)
    daemon = psutil.Process(box.start().pid)
    pid = check_sound(box)["pid"]
    for count in (1, 2):
        *_, helper = helpers_of(box, count)
        os.kill(pid, signal.SIGKILL)
        # None of the old server's is left when the new one starts, nor as a zombie.
        pid = check_sound(box, other_than=pid)["pid"]
        assert not lives(helper)
        states = [process.status() for process in daemon.children()]
        assert psutil.STATUS_ZOMBIE not in states
        assert len(states) == 2
    *_, helper = helpers_of(box, 3)
    assert lives(helper)
    box.stop_cleanly()
    assert not lives(helper)
    assert "Traceback" not in box.errors()


@linux_only
def test_what_outlives_server_daemon_and_plugin_is_told_and_ended_by_the_next_start(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags("helper"))
    box.start()
    pid = check_sound(box)["pid"]
    (helper,) = helpers_of(box, 1)
    path = family.path_of(box.config.runtime.runtime_dir)
    eventually(lambda: family.survivors(path), what="a helper on record")
    # circusd first stands still, so that it ends nobody.
    daemon = box.processes()[0]
    freeze(daemon)
    for process in (box.plugin().pid, daemon.pid, pid):
        os.kill(process, signal.SIGKILL)
    wait_gone(pid)
    assert lives(helper)
    told = box.run("status").stdout
    assert f"what an earlier server started lives without it (pid {helper})" in told
    box.start()
    check_sound(box, other_than=pid)
    assert not lives(helper)
    assert f"ending what an earlier server left behind: {helper}" in box.errors()


@linux_only
@pytest.mark.real
def test_what_a_turn_runs_ends_with_the_server_and_a_job_that_it_cast_off_does_not(
    make_box: MakeBox,
) -> None:
    """How codex 0.163 starts commands: a session for each, that it ends with the command."""
    box = make_box()
    job, work = box.root / "job", box.root / "work"
    cast_off = f"setsid sh -c 'echo $$ >{job}; exec sleep 600' >/dev/null 2>&1 </dev/null & echo ok"
    # Two of them: codex itself ends the first, which leads the session.
    stubborn = f"sh -c 'trap \"\" TERM HUP; echo $$ >{work}; sleep 600; echo late'; echo"
    model = ModelServer()
    try:
        model.write_config(
            box.codex_home, approval_policy='"never"', sandbox_mode='"danger-full-access"'
        )
        box.start()
        client = AppClient(box.config.runtime.hub_socket_path)
        thread = client.start_thread()
        for command in (cast_off, stubborn):
            model.queue.append(Reply(call=("exec_command", {"cmd": command})))
        client.start_turn(thread)
        eventually(lambda: _number_in(job) and _number_in(work), what="both processes")
        pids = [_number_in(job) or 0, _number_in(work) or 0]
        path = family.path_of(box.config.runtime.runtime_dir)
        eventually(
            lambda: [left.pid for left in family.survivors(path) if left.pid == pids[1]],
            what="the command on record",
        )
        old = box.wait_ready()["pid"]
        os.kill(old, signal.SIGKILL)
        check_sound(box, other_than=old)
        assert [lives(pid) for pid in pids] == [True, False]
        box.note_processes()
        assert box.stop() == 0
        assert lives(pids[0])
    finally:
        model.close()
        for pid in filter(None, map(_number_in, (job, work))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _number_in(file: Path) -> int | None:
    text = file.read_text() if file.exists() else ""
    return int(text) if text.endswith("\n") else None
