"""What recording one event costs, however much was recorded before it.

``python -m tests.benchmarks.bench_record``

The recorder, the log and the state files as the plugin opens them, with their threads and at the
defaults, rotation among them; each event comes with a change of its session, as the hub's do. All
histories are open at once and take turns; of each turn the median time of an event.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from codexd.clock import now_iso
from codexd.contracts import SessionRecord
from codexd.records.records import Records, open_records
from tests.benchmarks.command import alone
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, say
from tests.support.memory import config_at

_TURNS: Final = 30
_EVENTS: Final = 200
_HISTORIES: Final = (10, 10_000, 1_000_000)
_SESSIONS: Final = (10, 1_000, 10_000)
# What a change leaves to the threads beside is done by then.
_CALM_S: Final = 0.1
_FIRST: Final = f"{_HISTORIES[0]} events, {_SESSIONS[0]} sessions"


def _row(events: int, sessions: int) -> Row:
    title = f"one event after {events:,} others, with {sessions:,} sessions"
    name = f"record.{events}-{sessions}"
    is_first = (events, sessions) == (_HISTORIES[0], _SESSIONS[0])
    marks = () if is_first else (Mark(1.2, _FIRST),)
    return Row(name, title, "µs", () if is_first else (_FIRST,), marks)


CASES: Final = {
    (events, sessions): _row(events, sessions) for events in _HISTORIES for sessions in _SESSIONS
}


@dataclass
class History:
    """An open memory, and the sessions in it."""

    records: Records
    sessions: list[SessionRecord] = field(default_factory=list)
    count: int = 0

    def fill(self, sessions: int) -> None:
        """Have so many sessions."""
        now = now_iso()
        for number in range(sessions):
            session = SessionRecord(
                session_id=f"session-{number:08}",
                purpose="duplex",
                thread_id=f"0199{number:08}-7000-7000-8000-000000000000",
                endpoint="stdio://codex-app-server",
                created_at=now,
                updated_at=now,
            )
            self.sessions.append(session)
            self.records.recorder.session(session)

    def record(self, count: int) -> float:
        """Microseconds of an event, the median of so many."""
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            self._one()
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e6

    def _one(self) -> None:
        self.count += 1
        session = self.sessions[self.count % len(self.sessions)]
        changed = msgspec.structs.replace(session, updated_at=now_iso())
        self.records.recorder.session(changed)
        detail = {"sessionId": session.session_id, "threadId": session.thread_id}
        self.records.recorder.event("info", "turn.started", "A turn began.", detail)


def record(scene: Scene) -> None:
    """All histories, in turns."""
    with contextlib.ExitStack() as stack:
        roots = {events: _written(scene, events) for events in _HISTORIES}
        scene.begin("recording events")
        histories = {
            case: stack.enter_context(_opened(scene, roots[case[0]], case[1])) for case in CASES
        }
        for history in histories.values():
            history.record(_EVENTS)
        for _ in scene.rounds(_TURNS, quick=5):
            each = {}
            for case, history in histories.items():
                time.sleep(_CALM_S)
                each[case] = history.record(_EVENTS)
            for case, row in CASES.items():
                scene.take(row.name, OURS, each[case])
                if row.baselines:
                    scene.take(row.name, _FIRST, each[_HISTORIES[0], _SESSIONS[0]])


def _written(scene: Scene, events: int) -> Path:
    """A memory with so many events, closed again; the log rotates as it always does."""
    root = scene.place("memory")
    say(f"writing {events:,} events, to record more after them")
    config = config_at(root)
    Path(config.paths.state_dir).mkdir(parents=True)
    Path(config.paths.logs_dir).mkdir(parents=True)
    with open_records(config, timeout_s=5) as records:
        history = History(records)
        history.fill(1)
        # Without the session: that it is cheap is for the turns to show.
        detail = {"sessionId": "session-00000000", "threadId": None}
        for _ in range(events):
            records.events.record("info", "turn.started", "A turn began.", detail)
    return root


@contextlib.contextmanager
def _opened(scene: Scene, root: Path, sessions: int) -> Iterator[History]:
    copied = scene.place("history")
    shutil.copytree(root, copied, dirs_exist_ok=True)
    with open_records(config_at(copied), timeout_s=5) as records:
        history = History(records)
        history.fill(sessions)
        yield history


BENCHES: Final = (Bench(tuple(CASES.values()), record),)

if __name__ == "__main__":
    alone(BENCHES)
