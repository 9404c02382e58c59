from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from codexd.child import pipes as child_io
from codexd.child import steps as supervision
from codexd.child.control import ChildControl, machine_for
from codexd.child.ledger import Ledger
from codexd.child.pipes import PipeRack
from codexd.config import Config, resolve


class Timer:
    def __init__(self, seconds: float, callback: Callable[[], None]) -> None:
        self.seconds = seconds
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Rig:
    def __init__(self, config: Config, kept: tuple[Ledger, PipeRack] | None = None) -> None:
        self.published: list[dict[str, Any]] = []
        self.timers: list[Timer] = []
        self.woken = 0
        self.now = 0.0
        # Whether each step was in the file by the time that it was told.
        self.on_file = True
        self._path = supervision.path_of(config.paths.state_dir)
        self.kept = kept or (
            Ledger(supervision.path_of(config.paths.state_dir)),
            PipeRack(config.runtime.runtime_dir),
        )
        ledger, rack = self.kept
        ledger.attach(self._publish, self._call_later)
        machine = machine_for(config.server, config.policy, lambda: self.now)
        self.control = ChildControl(machine, ledger, rack, self._call_later, self._wake)
        self.control.start()

    def _publish(self, topic: str, message: dict[str, Any]) -> None:
        assert topic == "step"
        self.published.append(message)
        self.on_file = self.on_file and message["number"] <= self._newest_on_file()

    def _newest_on_file(self) -> int:
        return supervision.load(self._path).last_number

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, callback))
        return self.timers[-1]

    def _wake(self) -> None:
        self.woken += 1

    def fire(self) -> None:
        """The timers that are set run out."""
        due, self.timers = [timer for timer in self.timers if not timer.cancelled], []
        for timer in due:
            timer.callback()

    @property
    def pauses(self) -> list[float]:
        return [timer.seconds for timer in self.timers if not timer.cancelled]

    @property
    def kinds(self) -> list[str]:
        return [message["kind"] for message in self.published]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "state" / "codexd").mkdir(parents=True)
    return resolve({"repo_root": str(tmp_path), "restart_limit": "4"}, {}, cwd="/")


@pytest.fixture
def rig(config: Config) -> Rig:
    return Rig(config)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


# A pid that no process has: beyond what Linux and macOS give out.
NO_PID = 1 << 30


def test_no_number_of_a_step_is_used_again_by_the_next_daemon(config: Config, rig: Rig) -> None:
    rig.control.spawned(NO_PID, "true", ["/bin/true"], "/")
    rig.control.ended(NO_PID, 0)
    numbers = [message["number"] for message in rig.published]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    again = Rig(config)
    again.control.spawned(NO_PID, "true", ["/bin/true"], "/")
    assert again.published[0]["number"] > numbers[-1]
    record = supervision.load(supervision.path_of(config.paths.state_dir))
    assert record.begin == again.published[0]["number"] - 1


def saved(config: Config) -> list[str]:
    return [
        step.kind for step in supervision.load(supervision.path_of(config.paths.state_dir)).steps
    ]


def test_an_end_is_in_the_file_once_the_next_child_is_or_is_waited_for(
    config: Config, rig: Rig
) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.ended(NO_PID, 1)
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert saved(config) == ["spawned", "ended", "waiting", "spawned"]
    rig.control.ended(NO_PID, 1)
    assert saved(config)[-2:] == ["ended", "waiting"]


def test_whoever_hears_of_a_step_finds_it_in_the_file(rig: Rig) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert rig.on_file
    rig.control.stopping()
    rig.control.ended(NO_PID, 1)
    assert rig.on_file
    rig.control.start()
    # The first is tried again at once, and only then in the file.
    rig.control.spawn_failed("no such file")
    rig.on_file = True
    rig.control.spawn_failed("no such file")
    assert rig.kinds[-1] == "waiting"
    assert rig.on_file


def test_an_end_is_in_the_file_also_if_circus_starts_no_other(config: Config, rig: Rig) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.asked(NO_PID, 15)
    rig.control.ended(NO_PID, -15)
    rig.fire()
    assert rig.woken == 1
    assert saved(config) == ["spawned", "ended"]


def test_the_child_is_on_record_with_the_start_of_its_process(
    config: Config, rig: Rig, child: subprocess.Popen[bytes]
) -> None:
    rig.control.spawned(child.pid, "python", [sys.executable], "/")
    record = supervision.load(supervision.path_of(config.paths.state_dir))
    assert record.child is not None
    assert record.child.pid == child.pid
    assert record.executable is not None
    assert record.daemon is not None
    assert record.daemon.pid == os.getpid()
    rig.control.ended(child.pid, 0)
    rig.fire()
    assert supervision.load(supervision.path_of(config.paths.state_dir)).child is None


def test_a_crash_loop_waits_longer_and_gives_up_at_the_limit(rig: Rig) -> None:
    pauses: list[float] = []
    for _ in range(4):
        assert rig.control.may_start
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        assert not rig.control.may_start
        rig.control.ended(NO_PID, 1)
        pauses += rig.pauses
        rig.fire()
    assert pauses[0] == 0 < pauses[1] < pauses[2]
    assert rig.kinds.count("waiting") == 3
    assert rig.kinds[-1] == "gave_up"
    assert not rig.control.may_start
    assert rig.woken == 3


def test_a_stop_ends_the_waiting(config: Config, rig: Rig) -> None:
    for _ in range(2):
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        rig.control.ended(NO_PID, 1)
    assert not rig.control.may_start
    rig.control.stopping()
    rig.control.stopped()
    assert rig.pauses == []
    assert rig.kinds[-1] == saved(config)[-1] == "stopped"
    rig.control.start()
    assert rig.control.may_start


def test_where_no_process_is_to_be_nothing_is_waited_for(rig: Rig) -> None:
    for _ in range(2):
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        rig.control.ended(NO_PID, 1)
    rig.control.nobody_wanted()
    rig.control.nobody_wanted()
    assert rig.kinds.count("stopped") == 1
    assert rig.pauses == []
    assert rig.control.may_start


def test_what_is_left_of_its_group_ends_with_the_child_and_not_with_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("codexd.child.control.end_group_members", ended.append)
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.ended(NO_PID + 1, 1)
    assert ended == []
    rig.control.ended(NO_PID, 1)
    rig.control.ended(NO_PID, 1)
    assert ended == [NO_PID]


def test_a_watcher_made_anew_goes_on_where_the_last_one_was(config: Config, rig: Rig) -> None:
    rig.control.new_pipes()
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.stopping()
    rig.control.ended(NO_PID, 0)
    rig.control.stopped()
    begin = supervision.load(supervision.path_of(config.paths.state_dir)).begin
    again = Rig(config, rig.kept)
    again.control.new_pipes()
    again.control.spawned(NO_PID, "x", ["/x"], "/")
    (step,) = again.published
    assert (step["number"], step["attempt"]) == (rig.published[-1]["number"] + 1, 2)
    assert step["generation"] == rig.published[0]["generation"] + 1
    assert supervision.load(supervision.path_of(config.paths.state_dir)).begin == begin


def test_each_generation_has_pipes_of_its_own_until_they_are_read(config: Config, rig: Rig) -> None:
    runtime_dir = config.runtime.runtime_dir
    rig.control.new_pipes()
    first = rig.control.pipes
    os.write(first.stdout, b"last words")
    rig.control.new_pipes()
    assert [child_io.speaks_first(runtime_dir, 2) for _ in range(2)] == [True, False]
    assert not child_io.speaks_first(runtime_dir, 99)
    # What is no number is not one of ours, whatever Unicode calls a digit.
    os.mkdir(child_io.io_dir(runtime_dir) / "²")
    assert child_io.generations(runtime_dir) == [1, 2]
    reader = os.open(child_io.pipe_path(runtime_dir, 1, "stdout"), os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 100) == b"last words"
    os.close(reader)
    two_generations = psutil.Process().num_fds()
    child_io.remove(runtime_dir, 1)
    rig.control.new_pipes()
    assert child_io.generations(runtime_dir) == [2, 3]
    assert psutil.Process().num_fds() == two_generations
    # Nor are they kept until another child dies; those of the present one are, whatever happens.
    child_io.remove(runtime_dir, 2)
    rig.control.restore_pipes()
    assert psutil.Process().num_fds() == two_generations - 3 - len(first.stages)
    child_io.remove(runtime_dir, 3)
    rig.control.restore_pipes()
    assert psutil.Process().num_fds() == two_generations - 3 - len(first.stages)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A disk that can be full."""
    state = {"full": False}
    save = supervision.save

    def try_to(path: str, record: supervision.Supervision) -> None:
        if state["full"]:
            raise OSError(28, "No space left on device")
        save(path, record)

    monkeypatch.setattr(supervision, "save", try_to)
    return state


def test_what_a_full_disk_did_not_take_is_written_when_there_is_space(
    config: Config, rig: Rig, disk: dict[str, bool]
) -> None:
    disk["full"] = True
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert rig.kinds == ["spawned"]
    rig.control.became_ready(NO_PID)
    for _ in range(3):
        # One timer at a time, for as long as it takes.
        assert rig.pauses == [1.0]
        rig.fire()
    assert saved(config) == []
    disk["full"] = False
    rig.fire()
    assert saved(config) == ["spawned"]
    assert rig.pauses == []


def test_a_file_that_is_taken_away_is_written_again(config: Config, rig: Rig) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    os.unlink(supervision.path_of(config.paths.state_dir))
    rig.control.restore_pipes()
    assert saved(config) == ["spawned"]


def test_numbers_go_on_after_any_number_of_steps_that_were_not_written(
    config: Config, disk: dict[str, bool]
) -> None:
    rig = Rig(config)
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    disk["full"] = True
    for _ in range(300):
        rig.control.ended(NO_PID, 1)
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
    disk["full"] = False
    again = Rig(config)
    again.control.spawned(NO_PID, "x", ["/x"], "/")
    assert again.published[0]["number"] > rig.published[-1]["number"]


def test_a_lost_file_does_not_begin_the_numbers_anew(
    config: Config, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    os.unlink(supervision.path_of(config.paths.state_dir))
    minute_later = time.time() + 60
    monkeypatch.setattr("codexd.child.ledger.time.time", lambda: minute_later)
    again = Rig(config)
    again.control.spawned(NO_PID, "x", ["/x"], "/")
    assert again.published[0]["number"] > rig.published[0]["number"] + 50


def test_the_file_of_an_older_daemon_is_read(config: Config) -> None:
    path = Path(supervision.path_of(config.paths.state_dir))
    path.write_text(
        '{"daemon":{"pid":1,"token":"a:1"},"child":{"pid":2,"token":"a:2"},"executable":'
        '["/bin/x",1,2],"generation":7,"begin":100,"steps":[{"number":101,"kind":"spawned","at":1.5,'
        '"generation":7,"pid":2,"code":null,"asked":false,"error":null,"attempt":1,"delayMs":0,'
        '"command":"x","args":[],"cwd":"/"},{"number":102,"kind":"stopped","at":2.5,"generation":7}]}'
    )
    rig = Rig(config)
    rig.control.new_pipes()
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert rig.published[0]["generation"] == 8
    assert rig.published[0]["number"] > 1102
    assert saved(config) == ["spawned", "stopped", "spawned"]


def test_only_the_pipes_of_a_child_that_lives_get_their_names_again(rig: Rig) -> None:
    ledger, rack = rig.kept
    named: list[int] = []
    rig.kept[1].name_again = lambda: named.append(rack.present.generation)  # type: ignore[method-assign]
    rig.control.new_pipes()
    rig.control.restore_pipes()
    assert named == []
    rig.control.spawned(os.getpid(), "x", ["/x"], "/")
    assert ledger.has_child
    rig.control.restore_pipes()
    assert named == [1]
    rack.present.close()


def test_a_step_says_what_was_executed(config: Config, rig: Rig) -> None:
    rig.control.spawned(NO_PID, "codex", ["/bin/codex", "app-server", "-c"], "/work")
    step = supervision.load(supervision.path_of(config.paths.state_dir)).steps[-1]
    assert (step.command, step.args, step.cwd) == ("codex", ["app-server", "-c"], "/work")


def test_an_end_and_the_next_start_cost_one_write(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[int] = []
    save = supervision.save

    def note(path: str, record: supervision.Supervision) -> None:
        saves.append(len(record.steps))
        save(path, record)

    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    monkeypatch.setattr(supervision, "save", note)
    rig.control.ended(NO_PID, 1)
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert saves == [4]


def test_who_was_ready_for_a_second_is_back_at_once(rig: Rig) -> None:
    for _ in range(2):
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        rig.control.ended(NO_PID, 1)
        rig.fire()
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.became_ready(NO_PID)
    rig.now += 1.0
    rig.control.ended(NO_PID, 1)
    assert rig.published[-1]["delayMs"] == 0
    assert rig.control.may_start


def test_a_timer_runs_as_long_as_the_pause_that_is_told(rig: Rig) -> None:
    for _ in range(2):
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        rig.control.ended(NO_PID, 1)
    (pause,) = rig.pauses
    assert pause * 1000 == rig.published[-1]["delayMs"] > 0
