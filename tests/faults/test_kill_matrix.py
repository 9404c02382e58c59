"""Every process of a daemon killed, ended and stopped, alone and in pairs, idle and under load.

After each: one app-server, a true record, events without a gap, nothing lost or left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from itertools import combinations

import psutil
import pytest

from tests.support.daemon import DaemonBox, daemon_box
from tests.support.faults import app_servers, check_events, check_sound, freeze, wait_gone
from tests.support.load import Load, no_load, stream_of_events, stream_of_turns
from tests.support.stub import backoff, quick_health
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

# What is killed here has not run for long: that is not to count as a crash loop.
FLAGS = [*quick_health(timeout_ms=400), *backoff(20, 40), "--stop-timeout-ms=5000"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
VICTIMS = ("child", "plugin", "circusd")
LOADS: dict[str, Load] = {"idle": no_load, "events": stream_of_events, "turns": stream_of_turns}


@pytest.fixture(scope="module", params=LOADS)
def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonBox]:
    load: Load = LOADS[request.param]
    with (
        daemon_box(tmp_path_factory.mktemp(request.param) / "repo", *FLAGS) as box,
        load(box) as finish,
    ):
        box.start()
        yield box
        finish()
        assert box.stop() == 0, box.errors()
        check_events(box)


def pick(box: DaemonBox, victim: str) -> psutil.Process:
    if victim == "plugin":
        return box.plugin()
    if victim == "child":
        return eventually(lambda: _child(box), what="a child that lives")
    assert box.process is not None
    return psutil.Process(box.process.pid)


def _child(box: DaemonBox) -> psutil.Process | None:
    # What was done before may end it between the record and the look.
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(box.wait_ready()["pid"])
    return None


def strike(process: psutil.Process, signum: int) -> Callable[[], None]:
    """Send the signal; returns what undoes it where it can be undone."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        if signum == signal.SIGSTOP:
            freeze(process)
        else:
            process.send_signal(signum)

    def wake() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()

    return wake


def recover(box: DaemonBox, daemon_ends: bool) -> None:
    """Whoever runs the service starts codexd again when it ended."""
    assert box.process is not None
    if daemon_ends:
        box.process.wait(30)
        box.start(wait=False)
    check_sound(box)


def test_every_process_and_every_signal(box: DaemonBox) -> None:
    for victim in VICTIMS:
        for signum in SIGNALS:
            child = check_sound(box)
            process = pick(box, victim)
            wake = strike(process, signum)
            if signum == signal.SIGSTOP:
                # The child is found out; the others are not to be held against it.
                if victim == "child":
                    wait_gone(process.pid)
                else:
                    outlast(1.3)
                wake()
            elif victim == "plugin":
                wait_gone(process.pid)
                box.plugin()
            recover(box, victim == "circusd" and signum != signal.SIGSTOP)
            if victim == "plugin" or (victim, signum) == ("circusd", signal.SIGSTOP):
                assert check_sound(box)["pid"] == child["pid"], (victim, signum)


def outlast(seconds: float) -> None:
    """Nothing shall happen in this time; 1.3 s are more than the health checks need."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until)


def test_pairs_at_random_moments(box: DaemonBox) -> None:
    dice = random.Random(4)
    for first, second in combinations(VICTIMS, 2):
        for one, other in dice.sample([(a, b) for a in SIGNALS for b in SIGNALS], 3):
            check_sound(box)
            processes = {victim: pick(box, victim) for victim in (first, second)}
            wakes = [strike(processes[first], one)]
            # Long enough to be in the middle of a restart, or after one.
            outlast(dice.uniform(0, 0.3))
            wakes.append(strike(processes[second], other))
            for wake in wakes:
                wake()
            ends = "circusd" in processes and (one, other)[first != "circusd"] != signal.SIGSTOP
            recover(box, ends)


def test_all_at_once(box: DaemonBox) -> None:
    for _ in range(3):
        child = check_sound(box)
        for process in box.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert box.process is not None
        box.process.wait(10)
        eventually(lambda: not app_servers(box), what="the end of everything")
        line = box.run("status").stdout
        assert " daemon=stopped child=failed " in line, line
        recover(box, daemon_ends=True)
        assert child["pid"] != check_sound(box)["pid"]


def test_nothing_is_left_when_it_is_stopped(box: DaemonBox) -> None:
    assert box.run("stop").returncode == 0
    assert app_servers(box) == []
    # A shell that codex started for itself may take a moment longer.
    eventually(lambda: not box.leftovers(), what="the end of every process")
    box.start()
    os.kill(check_sound(box)["pid"], 0)
