from __future__ import annotations

from typing import Any

import msgspec
import pytest

from codexd.child.steps import Step, StepKind
from codexd.config import resolve
from codexd.contracts import ChildState, DaemonState, Event, EventLevel, SessionRecord
from codexd.records.recorder import Recorder, split_exit


class FakeState:
    def __init__(self) -> None:
        child = ChildState(strategy="spawn", mode="app-server", endpoint="stdio://x")
        self.daemon = DaemonState(updated_at="", child=child)
        self.sessions: list[SessionRecord] = []

    def update_daemon(self, **changes: Any) -> None:
        self.daemon = msgspec.structs.replace(self.daemon, **changes)

    def update_child(self, **changes: Any) -> None:
        self.daemon.child = msgspec.structs.replace(self.daemon.child, **changes)

    def put_session(self, record: SessionRecord) -> None:
        self.sessions.append(record)


class FakeEvents:
    def __init__(self) -> None:
        self.levels: list[str] = []
        self.types: list[str] = []
        self.messages: list[str] = []
        self.details: list[dict[str, Any] | None] = []

    def record(
        self, level: EventLevel, type: str, message: str, detail: dict[str, Any] | None = None
    ) -> Event | None:
        assert level
        assert "\n" not in message
        self.levels.append(level)
        self.types.append(type)
        self.messages.append(message)
        self.details.append(detail)
        return None


@pytest.fixture
def state() -> FakeState:
    return FakeState()


@pytest.fixture
def events() -> FakeEvents:
    return FakeEvents()


@pytest.fixture
def recorder(state: FakeState, events: FakeEvents) -> Recorder:
    recorder = Recorder(state, events)
    recorder.daemon_started(1, resolve({}, {}, cwd="/").server)
    recorder.starting()
    return recorder


def step(number: int, kind: StepKind, **facts: Any) -> Step:
    return Step(number=number, kind=kind, at=1_700_000_000.0 + number, generation=1, **facts)


SPAWNED: dict[str, Any] = {"pid": 42, "attempt": 1, "command": "codex", "args": [], "cwd": "/"}


def test_a_crash_with_an_immediate_restart(recorder: Recorder, events: FakeEvents) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.ready({"pid": 42})
    assert recorder.child.status == "running"
    assert recorder.child.ready
    recorder.step(step(2, "ended", pid=42, code=-9))
    assert (recorder.child.status, recorder.child.signal) == ("failed", "SIGKILL")
    assert recorder.child.last_error
    recorder.step(step(3, "waiting", attempt=1))
    recorder.step(step(4, "spawned", **{**SPAWNED, "pid": 43, "attempt": 2}))
    child = recorder.child
    assert (child.status, child.pid, child.restarts) == ("running", 43, 1)
    assert (child.ready, child.last_error, child.exited_at) == (False, None, None)
    assert events.types == [
        "daemon.started",
        "child.started",
        "child.ready",
        "child.exited",
        "child.restarting",
        "child.started",
    ]


def test_a_spare_that_takes_the_place_of_a_child_is_one_more_start(
    recorder: Recorder, events: FakeEvents
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=-9))
    promoted = {**SPAWNED, "pid": 43, "attempt": 2, "promoted": True}
    recorder.step(step(3, "spawned", **promoted))
    # Told again, it is recorded once.
    recorder.step(step(3, "spawned", **promoted))
    assert (recorder.child.pid, recorder.child.restarts) == (43, 1)
    assert events.types[-3:] == ["child.exited", "child.started", "child.promoted"]


def test_a_crash_loop_waits_as_failed_with_the_next_try(recorder: Recorder) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=0))
    assert recorder.child.status == "stopped"
    recorder.step(step(3, "waiting", attempt=3, delay_ms=1000))
    child = recorder.child
    assert child.status == "failed"
    assert child.next_restart_at == "2023-11-14T22:13:24.000Z"
    assert child.last_error == "The child ended 3 times in a row."


@pytest.mark.parametrize("by_daemon", [False, True])
@pytest.mark.parametrize(("code", "status"), [(1, "failed"), (-11, "failed"), (0, "stopped")])
def test_a_stop_calls_off_the_next_try_and_leaves_how_the_last_one_ended(
    recorder: Recorder, events: FakeEvents, code: int, status: str, by_daemon: bool
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=code))
    recorder.step(step(3, "waiting", attempt=2, delay_ms=1000))
    assert recorder.child.status == "failed"
    if by_daemon:
        recorder.daemon_stopped()
    else:
        recorder.step(step(4, "stopped"))
        assert events.types[-1] == "child.stopped"
    child = recorder.child
    assert (child.status, child.next_restart_at) == (status, None)
    assert (child.exit_code, child.signal) == split_exit(code)
    assert (child.last_error is None) == (status == "stopped")


def test_a_stop_after_which_nothing_was_to_come_changes_nothing(
    recorder: Recorder, events: FakeEvents
) -> None:
    # As daemons of older versions wrote it after every stop.
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=3))
    before = (events.types[:], msgspec.structs.replace(recorder.child))
    recorder.step(step(3, "stopped"))
    assert (events.types, recorder.child) == before


def test_a_start_that_failed_has_no_code_of_an_earlier_child(recorder: Recorder) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=0))
    recorder.step(step(3, "spawn_failed", error="No such file: /x"))
    child = recorder.child
    assert (child.status, child.exit_code, child.last_error) == ("failed", None, "No such file: /x")


def test_what_the_plugin_says_of_a_child_that_is_gone_is_not_believed(
    recorder: Recorder, events: FakeEvents
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=1))
    before = recorder.child.last_error
    recorder.ready({"pid": 42})
    recorder.not_ready("the connection is gone")
    child = recorder.child
    assert (child.ready, child.status, child.last_error) == (False, "failed", before)
    assert "child.ready" not in events.types


@pytest.mark.parametrize(
    ("code", "asked", "status"),
    [
        (0, False, "stopped"),
        (-15, True, "stopped"),
        (-15, False, "failed"),
        (1, False, "failed"),
        (None, False, "failed"),
    ],
)
def test_how_an_end_is_called(
    recorder: Recorder, code: int | None, asked: bool, status: str
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=code, asked=asked))
    assert recorder.child.status == status
    assert (recorder.child.last_error is None) == (status == "stopped")


@pytest.mark.parametrize(
    ("code", "asked", "message", "last_error"),
    [
        (0, False, "Codex child exited.", None),
        (3, False, "Codex child exited with code 3.", "Child exited with code 3: Error: why"),
        (-6, False, "Codex child exited after SIGABRT.", "Child exited after SIGABRT: Error: why"),
        # Whoever killed it knows why; what it said before has nothing to do with it.
        (-9, False, "Codex child exited after SIGKILL.", "Child exited after SIGKILL."),
        (-15, True, "Codex child exited after SIGTERM.", None),
        (
            None,
            False,
            "Codex child exited in a way nobody saw.",
            "Child exited in a way nobody saw: Error: why",
        ),
    ],
)
def test_why_it_ended_is_what_it_said_last(
    recorder: Recorder,
    events: FakeEvents,
    code: int | None,
    asked: bool,
    message: str,
    last_error: str | None,
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=code, asked=asked, error="Error: why"))
    assert (recorder.child.last_error, events.messages[-1]) == (last_error, message)
    detail = events.details[-1] or {}
    assert ("reason" in detail) == ("why" in (last_error or ""))


def test_why_it_ended_is_known_to_the_next_that_records(
    state: FakeState, events: FakeEvents
) -> None:
    first = Recorder(state, events)
    first.step(step(1, "spawned", **SPAWNED))
    first.step(step(2, "ended", pid=42, code=3, error="Error: why"))
    again = Recorder(state, events, recorded=2, last_end=events.details[-1])
    again.step(step(1, "spawned", **SPAWNED))
    again.step(step(2, "ended", pid=42, code=3))
    assert state.daemon.child.last_error == "Child exited with code 3: Error: why"
    again.step(step(3, "spawned", **SPAWNED))
    again.step(step(4, "ended", pid=43, code=3))
    assert state.daemon.child.last_error == "Child exited with code 3."


def test_steps_that_are_in_the_log_already_only_mend_the_state(
    state: FakeState, events: FakeEvents
) -> None:
    recorder = Recorder(state, events, recorded=2)
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=3))
    assert events.types == []
    assert (state.daemon.child.status, state.daemon.child.exit_code) == ("failed", 3)
    recorder.step(step(3, "spawned", **SPAWNED))
    assert events.types == ["child.started"]


def test_a_restarted_plugin_leaves_a_ready_child_ready(
    state: FakeState, events: FakeEvents
) -> None:
    first = Recorder(state, events)
    first.step(step(1, "spawned", **SPAWNED))
    first.ready({})
    again = Recorder(state, events, recorded=1)
    again.step(step(1, "spawned", **SPAWNED))
    assert state.daemon.child.ready


def test_the_daemons_end_leaves_no_child_believed_in(recorder: Recorder) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.ready({})
    recorder.daemon_stopped()
    child = recorder.child
    assert (child.status, child.pid, child.ready) == ("stopped", None, False)


def test_the_daemons_end_lets_go_of_a_server_of_others(recorder: Recorder) -> None:
    recorder.external("unix:///run/x")
    recorder.ready({})
    recorder.daemon_stopped()
    child = recorder.child
    assert (child.status, child.ready) == ("idle", False)
    assert child.exited_at


def test_a_child_whose_end_was_missed_is_followed_by_the_next(recorder: Recorder) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.ready({})
    recorder.step(step(2, "spawned", **{**SPAWNED, "pid": 43}))
    assert (recorder.child.pid, recorder.child.ready) == (43, False)


@pytest.mark.parametrize("is_there", [True, False])
def test_of_a_child_that_is_not_there_no_lost_connection_is_told(
    recorder: Recorder, events: FakeEvents, is_there: bool
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.ready({})
    if not is_there:
        recorder.step(step(2, "ended", pid=42, code=0))
    recorder.link_lost("cut off")
    assert recorder.child.last_error == ("cut off" if is_there else None)
    assert not recorder.child.ready
    assert events.types.count("link.lost") == int(is_there)
    # It may live, and well.
    assert "child.unhealthy" not in events.types


def test_a_child_that_lets_nobody_in_is_not_ready(recorder: Recorder, events: FakeEvents) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.refused("It wants a token.")
    assert (recorder.child.ready, recorder.child.last_error) == (False, "It wants a token.")
    assert (events.types[-1], events.details[-1]) == ("link.refused", {"pid": 42})


def test_an_unhealthy_child_is_not_ready_and_says_why(
    recorder: Recorder, events: FakeEvents
) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.ready({})
    recorder.not_ready("no answer", unhealthy=True)
    assert (recorder.child.ready, recorder.child.last_error) == (False, "no answer")
    assert events.types[-1] == "child.unhealthy"
    assert events.details[-1] == {"pid": 42}


@pytest.mark.parametrize(
    ("code", "split"),
    [(0, (0, None)), (7, (7, None)), (-9, (None, "SIGKILL")), (-200, (None, "SIG200"))],
)
def test_exit_codes_and_signals(code: int, split: tuple[int | None, str | None]) -> None:
    assert split_exit(code) == split


def test_what_is_said_of_each_event_and_how_loud(recorder: Recorder, events: FakeEvents) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.ready({"pid": 42})
    recorder.step(step(2, "ended", pid=42, code=3, error="no room"))
    recorder.step(step(3, "waiting", attempt=1))
    recorder.step(step(4, "spawned", **SPAWNED))
    recorder.step(step(5, "ended", pid=42, code=0, asked=True))
    recorder.step(step(6, "waiting", attempt=2, delay_ms=250))
    recorder.step(step(7, "spawn_failed", error="No such file: /x"))
    recorder.step(step(8, "gave_up", attempt=3))
    assert list(zip(events.levels, events.types, events.messages, strict=True))[1:] == [
        ("info", "child.started", "Started Codex child process 42."),
        ("info", "child.ready", "The child answers."),
        ("error", "child.exited", "Codex child exited with code 3."),
        ("warn", "child.restarting", "The child is started again at once."),
        ("info", "child.started", "Started Codex child process 42."),
        ("info", "child.exited", "Codex child exited."),
        ("warn", "child.restarting", "The child is started again in 250 ms."),
        ("error", "child.spawn.failed", "No such file: /x"),
        (
            "error",
            "child.abandoned",
            "Gave up after 3 failures in a row; `codexd restart` tries once more.",
        ),
    ]
    assert events.details[3:5] == [
        {"code": 3, "signal": None, "pid": 42, "step": 2, "reason": "no room"},
        {"attempt": 1, "delayMs": 0, "step": 3},
    ]
    assert (recorder.child.status, recorder.child.next_restart_at) == ("failed", None)


@pytest.mark.parametrize(
    "steps",
    [
        [step(1, "spawned", **SPAWNED)],
        [step(1, "spawned", **SPAWNED), step(2, "ended", pid=42, code=1)],
        [step(1, "spawn_failed", error="No such file: /x")],
        [step(1, "waiting", attempt=2, delay_ms=1000)],
        [step(1, "waiting", attempt=2, delay_ms=1000), step(2, "stopped")],
        [step(1, "gave_up", attempt=3)],
    ],
    ids=lambda steps: steps[-1].kind,
)
def test_no_step_is_told_twice(
    recorder: Recorder, state: FakeState, events: FakeEvents, steps: list[Step]
) -> None:
    recorder.replay(steps)
    told = events.types[:]
    again = Recorder(state, events, recorded=steps[-1].number)
    again.replay(steps)
    assert events.types == told
    assert again.recorded == steps[-1].number


def test_a_daemon_that_ended_is_on_record_as_ended(recorder: Recorder, state: FakeState) -> None:
    assert state.daemon.started
    recorder.daemon_stopped()
    daemon = state.daemon
    assert (daemon.started, daemon.pid) == (False, None)
    assert daemon.stopped_at == daemon.updated_at


def test_an_end_that_nobody_saw_is_recorded_once(recorder: Recorder, events: FakeEvents) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    for _ in range(2):
        recorder.lost_with_daemon(1)
    assert recorder.recorded == 2
    assert events.types.count("child.exited") == 1
    assert (recorder.child.pid, recorder.child.status) == (None, "failed")


def test_what_is_about_to_be_started_is_starting(recorder: Recorder) -> None:
    assert recorder.child.status == "starting"
    recorder.step(step(1, "waiting", attempt=2, delay_ms=1000))
    recorder.starting()
    assert (recorder.child.status, recorder.child.next_restart_at) == ("starting", None)


def test_a_command_that_is_not_there_is_told_before_circus_is_asked(
    recorder: Recorder, events: FakeEvents
) -> None:
    recorder.cannot_spawn("No such file: /x")
    child = recorder.child
    assert (child.status, child.pid, child.last_error) == ("failed", None, "No such file: /x")
    assert child.exited_at
    assert (events.types[-1], events.messages[-1]) == ("child.spawn.failed", "No such file: /x")


def test_a_restart_at_once_leaves_how_the_last_one_ended(recorder: Recorder) -> None:
    recorder.step(step(1, "spawned", **SPAWNED))
    recorder.step(step(2, "ended", pid=42, code=0))
    recorder.step(step(3, "waiting", attempt=1))
    child = recorder.child
    assert (child.status, child.last_error, child.next_restart_at) == ("stopped", None, None)


def test_a_server_of_others_is_let_go_of_before_children_of_our_own(
    recorder: Recorder, events: FakeEvents
) -> None:
    recorder.external("unix:///run/x")
    assert (recorder.child.status, events.types[-1]) == ("external", "child.external")
    seen = []
    for steps in ([], [step(1, "stopped")], [step(2, "spawned", **SPAWNED)], [step(3, "stopped")]):
        recorder.replay(steps)
        seen.append(recorder.child.status)
    assert seen == ["external", "idle", "running", "running"]
