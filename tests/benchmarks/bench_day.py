"""A day in small, beside its own first minute: is anything larger or slower at its end?

``python -m tests.benchmarks.bench_day [--sessions N] [--restarts N] [--events N] [--scale X]``

A daemon at the defaults, on a server that costs next to nothing (a turn of the real one takes
longer than a day in small has for it). Six clients on WebSockets have sessions of a thread, some
turns and its end, 16 at a time each; three of them leave after a hundred sessions, and others
come. One session of ten is opened and closed over HTTP. One client follows the events. Restarts
are spread over the day, ordered and by SIGKILL in turns. Each part of it ends with a pause, in
which it is looked and asked how things are.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from codexd.store.files import write_atomic
from tests.benchmarks.command import alone
from tests.benchmarks.day_clients import Day, Http
from tests.benchmarks.day_crowd import OPEN_AT_ONCE, Crowd
from tests.benchmarks.raw_client import RawClient, first_answer
from tests.benchmarks.row import OURS, Bench, Mark, Row
from tests.benchmarks.scene import Scene, say
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.figures import cpu_s, memory_mib

_SERVER: Final = Path(__file__).with_name("day_server.py")
# A part is long beside the sessions that are open at once.
_PARTS: Final = 40
_LEAST_PARTS: Final = 10
_SESSIONS_OF_PART: Final = 250
_FIRST_S: Final = 60.0
_REQUESTS: Final = 300
_STATUSES: Final = 100
_SESSIONS: Final = 40
_PLUGIN_KILLS: Final = 5
# As far apart as a plugin's life must be long for the next to begin at once.
_APART_S: Final = 2.5
# An entry of a state file: a session, an event, a step of circusd's.
_ENTRY_BYTES: Final = 1024
_STEPS: Final = 200
_FIRST: Final = "its first minute"
_FRESH: Final = "a fresh daemon"
_ROTATED: Final = re.compile(r"\.log\.\d+$|\.jsonl\.\d+$")
# events.jsonl, stdout.log, stderr.log and codexd.log.
_LOGS: Final = 4
# Of the whole day, what ops/bench has time for.
_SCALE: Final = 0.1
_QUICK: Final = 0.02


def _row(name: str, title: str, unit: str) -> Row:
    return Row(f"day.{name}", f"after a day: {title}", unit, (_FIRST,), (Mark(1.2, _FIRST),))


ROWS: Final = (
    _row("plugin", "the plugin's memory (PSS)", "MiB"),
    _row("circusd", "circusd's memory (PSS)", "MiB"),
    _row("descriptors", "their descriptors", "open"),
    _row("files", "what is on disk without rotated logs", "files"),
    Row("day.state", "after a day: state files, of what retention allows", "%", (), (Mark(100),)),
    Row("day.logs", "after a day: logs, of what retention allows", "%", (), (Mark(100),)),
    _row("request", "a small request", "µs"),
    _row("status", "GET /v1/status", "µs"),
    _row("event", "a request that records an event", "µs"),
    _row("session", "a session written down, beside the bare writing of as much", "times"),
    _row("cpu", "processor time of plugin and circusd for an event", "µs"),
    Row(
        "day.restart",
        "after a day: the plugin killed, to the hub's next answer",
        "ms",
        (_FRESH,),
        (Mark(1.2, _FRESH),),
    ),
)


@dataclass(frozen=True, slots=True)
class Size:
    """What a whole day has."""

    sessions: int = 100_000
    restarts: int = 1_000
    events: int = 1_000_000

    def day(self, scale: float) -> Day:
        """As much of it."""
        values = (self.sessions, self.restarts, self.events)
        sessions, restarts, events = (max(round(value * scale), 1) for value in values)
        return Day(sessions=sessions, restarts=restarts, events=events)


class Look:
    """Looks at a daemon that nobody else uses just now."""

    def __init__(self, box: DaemonBox) -> None:
        config = box.config
        path = config.runtime.hub_socket_path
        assert box.process is not None
        self._plugin = box.plugin()
        self._circusd = psutil.Process(box.process.pid)
        self._directories = (box.state_dir, box.logs_dir)
        self._scratch = box.root / "scratch"
        policy = config.policy
        self._logs_limit = policy.log_max_bytes * (policy.log_backups + 1) * _LOGS
        entries = policy.session_keep + OPEN_AT_ONCE + config.event_cache_size + _STEPS
        self._state_limit = entries * _ENTRY_BYTES
        self._client = RawClient(path)
        self._http = Http(path)

    def cpu_s(self) -> float:
        """Processor time of both so far."""
        return cpu_s(self._plugin) + cpu_s(self._circusd)

    def newest(self) -> int:
        """The number of the newest event."""
        page = json.loads(self._http.ask("GET", "/v1/status"))["recentEvents"]
        return int(page["events"][-1]["seq"])

    def take(self) -> dict[str, float]:
        """How things are, by row. Of times that of the quickest tenth: nobody was in the way."""
        assert self._plugin.is_running(), "the plugin was replaced"
        sizes = _files(self._directories)
        logs = [path for path in sizes if self._directories[1] in path.parents]
        state_bytes = sum(size for path, size in sizes.items() if path not in logs)
        registered, closed, bare = self._sessions()
        times = {
            "request": 1e6 * _quickest(self._ask, _REQUESTS),
            "status": 1e6 * _quickest(lambda: self._http.ask("GET", "/v1/status"), _STATUSES),
            "event": 1e6 * _tenth(closed),
            "session": _tenth(registered) / _tenth(bare),
        }
        self._http.hang_up()
        return {
            "plugin": memory_mib([self._plugin]),
            "circusd": memory_mib([self._circusd]),
            "descriptors": self._plugin.num_fds() + self._circusd.num_fds(),
            "files": sum(not _ROTATED.search(path.name) for path in sizes),
            "state": 100 * state_bytes / self._state_limit,
            "logs": 100 * sum(sizes[path] for path in logs) / self._logs_limit,
            **times,
        }

    def _ask(self) -> None:
        self._client.ask("model/list", {})

    def _sessions(self) -> tuple[list[float], list[float], list[float]]:
        """How long it takes to open a session, which is written down then, and to close it.

        And what the disk takes just now to write as much as the registry has.
        """
        registered, closed, bare = [], [], []
        registry = (self._directories[0] / "session-registry.json").read_bytes()
        for _ in range(_SESSIONS):
            begun = time.perf_counter()
            write_atomic(str(self._scratch), registry)
            bare.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            answer = self._http.ask("POST", "/v1/sessions", '{"purpose":"worker"}')
            target = f"/v1/sessions/{json.loads(answer)['sessionId']}"
            opened = time.perf_counter()
            self._http.ask("DELETE", target)
            registered.append(opened - begun)
            closed.append(time.perf_counter() - opened)
        return registered, closed, bare

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._http.hang_up()


def _files(directories: Iterable[Path]) -> dict[Path, int]:
    """What is there, and how many bytes each has."""
    sizes = {}
    for directory in directories:
        for path in directory.rglob("*"):
            # What is just being written may have its name by now.
            with contextlib.suppress(FileNotFoundError):
                sizes[path] = 0 if path.is_dir() else path.lstat().st_size
    return sizes


def _tenth(times: list[float]) -> float:
    return statistics.quantiles(times, n=10)[0]


def _quickest(one: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        one()
        times.append(time.perf_counter() - begun)
    return _tenth(times)


def day(scene: Scene, size: Size | None = None, scale: float | None = None) -> None:
    """All of it, in parts."""
    scene.begin("a day in small")
    today = (size or Size()).day(scale or (_QUICK if scene.is_quick else _SCALE))
    flags = ["--server-command", sys.executable]
    flags += [f"--server-arg={word}" for word in ("-IS", str(_SERVER), "app-server")]
    with daemon_box(scene.place("codexd"), *flags) as box:
        box.start()
        path = box.config.runtime.hub_socket_path
        crowd = Crowd(path, today, box.state_dir / "daemon-state.json")
        look = Look(box)
        try:
            _live(scene, crowd, look)
        finally:
            crowd.close()
            look.close()
        with daemon_box(scene.place("fresh"), *flags) as fresh:
            fresh.start()
            _kill_plugins(scene, {OURS: box, _FRESH: fresh})


def _kill_plugins(scene: Scene, boxes: dict[str, DaemonBox]) -> None:
    """How long nobody is answered where the plugin is killed, which reads the files anew then.

    In turns, and the quickest of each: on a machine that does other things, most are late.
    """
    times: dict[str, list[float]] = {side: [] for side in boxes}
    for _ in range(_PLUGIN_KILLS):
        for side, box in boxes.items():
            time.sleep(_APART_S)
            box.wait_ready()
            path, pid = box.config.runtime.hub_socket_path, box.plugin().pid
            begun = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            first_answer(path, other_than=pid)
            times[side].append(time.perf_counter() - begun)
    for side, taken in times.items():
        scene.take("day.restart", side, 1e3 * min(taken))


def _live(scene: Scene, crowd: Crowd, look: Look) -> None:
    today, begun = crowd.day, time.monotonic()
    parts = max(min(today.sessions // _SESSIONS_OF_PART, _PARTS), _LEAST_PARTS)
    tenth = parts // 10
    for part in range(1, parts + 1):
        recorded, used_s, at = today.recorded, look.cpu_s(), time.monotonic()
        crowd.work(functools.partial(_is_over, today, part / parts))
        crowd.hear_all(look.newest())
        took_s, events = time.monotonic() - at, today.recorded - recorded
        cpu_us = 1e6 * (look.cpu_s() - used_s) / events
        values = {**look.take(), "cpu": cpu_us}
        _tell(today, values, events / took_s)
        if part <= tenth and (part == 1 or at - begun < _FIRST_S):
            for name, value in values.items():
                scene.take(f"day.{name}", _FIRST, value)
        elif part > parts - tenth:
            for name, value in values.items():
                scene.take(f"day.{name}", OURS, value)
    say(
        f"{today.over:,} sessions, {today.restarted:,} restarts ({today.killed:,} kills), "
        f"{today.turns:,} turns, {today.recorded:,} events in {time.monotonic() - begun:.0f} s"
    )
    if crowd.lost:
        raise RuntimeError(f"{crowd.lost} events reached no follower")


def _is_over(today: Day, share: float) -> bool:
    """Whether so much of the day is over, from 0 to 1."""
    return today.is_done if share == 1 else today.progress >= share


def _tell(today: Day, values: dict[str, float], rate: float) -> None:
    told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    load = os.getloadavg()[0]
    say(f"{today.progress:4.0%} {today.recorded:,} events, {rate:.0f}/s: {told}; load {load:.0f}")


BENCHES: Final = (Bench(ROWS, day),)


def arguments() -> argparse.ArgumentParser:
    """What may be said on the command line, beside what every bench takes."""
    parser = argparse.ArgumentParser(add_help=False)
    whole = Size()
    parser.add_argument("--sessions", type=int, default=whole.sessions)
    parser.add_argument("--restarts", type=int, default=whole.restarts)
    parser.add_argument("--events", type=int, default=whole.events)
    parser.add_argument("--scale", type=float, default=1.0)
    return parser


def main() -> None:
    """As much of it as the command line says."""
    options, sys.argv[1:] = arguments().parse_known_args()
    size = Size(options.sessions, options.restarts, options.events)
    alone((Bench(ROWS, functools.partial(day, size=size, scale=options.scale)),))


if __name__ == "__main__":
    main()
