from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from codexd.child import pipes as child_io
from codexd.child import steps as supervision
from codexd.child.control import ChildControl
from codexd.config import Config, resolve


class Timer:
    def __init__(self, seconds: float, callback: Callable[[], None]) -> None:
        self.seconds = seconds
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Rig:
    def __init__(self, config: Config) -> None:
        self.published: list[dict[str, Any]] = []
        self.timers: list[Timer] = []
        self.woken = 0
        self.control = ChildControl(config, self._publish, self._call_later)

    def _publish(self, topic: str, message: dict[str, Any]) -> None:
        assert topic == "step"
        self.published.append(message)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, callback))
        return self.timers[-1]

    def wake(self) -> None:
        self.woken += 1

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
    rig.control.ended(NO_PID, 0, rig.wake)
    numbers = [message["number"] for message in rig.published]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    again = Rig(config)
    again.control.spawned(NO_PID, "true", ["/bin/true"], "/")
    assert again.published[0]["number"] > numbers[-1]
    record = supervision.load(supervision.path_of(config))
    assert record.begin == again.published[0]["number"] - 1


def test_an_end_is_in_the_file_once_the_next_child_is_or_is_waited_for(
    config: Config, rig: Rig
) -> None:
    def kinds() -> list[str]:
        return [step.kind for step in supervision.load(supervision.path_of(config)).steps]

    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.ended(NO_PID, 1, rig.wake)
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert kinds() == ["spawned", "ended", "waiting", "spawned"]
    rig.control.ended(NO_PID, 1, rig.wake)
    assert kinds()[-2:] == ["ended", "waiting"]


def test_the_child_is_on_record_with_the_start_of_its_process(
    config: Config, rig: Rig, child: subprocess.Popen[bytes]
) -> None:
    rig.control.spawned(child.pid, "python", [sys.executable], "/")
    record = supervision.load(supervision.path_of(config))
    assert record.child is not None
    assert record.child.pid == child.pid
    assert record.executable is not None
    assert record.daemon is not None
    assert record.daemon.pid == os.getpid()


def test_a_crash_loop_waits_longer_and_gives_up_at_the_limit(rig: Rig) -> None:
    for failure in range(1, 5):
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        rig.control.ended(NO_PID, 1, rig.wake)
        assert rig.control.waiting == (failure > 1)
        if failure in (2, 3):
            rig.timers[-1].callback()
            assert not rig.control.waiting
    assert rig.kinds.count("waiting") == 3
    assert rig.kinds[-1] == "gave_up"
    assert rig.control.waiting
    assert rig.timers[0].seconds < rig.timers[1].seconds
    assert rig.woken == 2


def test_what_an_operator_asked_for_is_no_failure(rig: Rig) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.asked(NO_PID, 15)
    rig.control.ended(NO_PID, -15, rig.wake)
    assert rig.published[-1]["asked"]
    assert not rig.control.waiting


def test_another_signal_than_the_one_asked_for_is_a_failure(rig: Rig) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.asked(NO_PID, 1)
    rig.control.ended(NO_PID, -11, rig.wake)
    assert not rig.published[-2]["asked"]
    assert rig.kinds[-1] == "waiting"


def test_replacing_an_unhealthy_child_is_a_failure(rig: Rig) -> None:
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.condemn(NO_PID)
    rig.control.asked(NO_PID, 9)
    rig.control.ended(NO_PID, -9, rig.wake)
    assert not rig.published[-2]["asked"]


def test_a_stop_ends_the_waiting(rig: Rig) -> None:
    for _ in range(2):
        rig.control.spawned(NO_PID, "x", ["/x"], "/")
        rig.control.ended(NO_PID, 1, rig.wake)
    assert rig.control.waiting
    rig.control.stopped()
    assert not rig.control.waiting
    assert rig.timers[-1].cancelled
    assert rig.kinds[-1] == "stopped"


def test_a_child_that_cannot_be_started_is_tried_again_by_a_timer(rig: Rig) -> None:
    rig.control.spawn_failed(FileNotFoundError(2, "No such file", "/x"), rig.wake)
    assert rig.published[0]["error"] == "No such file: /x"
    assert rig.control.retries
    rig.timers[0].callback()
    assert rig.woken == 1


@pytest.mark.parametrize(
    ("policy", "code", "rests"),
    [("never", 1, True), ("on-failure", 0, True), ("on-failure", 1, False), ("always", 0, False)],
)
def test_restart_policies(tmp_path: Path, policy: str, code: int, rests: bool) -> None:
    (tmp_path / "state" / "codexd").mkdir(parents=True)
    rig = Rig(resolve({"repo_root": str(tmp_path), "restart": policy}, {}, cwd="/"))
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    rig.control.ended(NO_PID, code, rig.wake)
    assert rig.control.waiting == rests
    assert not rig.timers


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


def test_a_disk_that_takes_nothing_does_not_keep_a_child_from_starting(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supervision, "save", full)
    rig.control.spawned(NO_PID, "x", ["/x"], "/")
    assert rig.kinds == ["spawned"]
