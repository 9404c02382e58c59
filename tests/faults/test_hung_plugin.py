"""A plugin that is there and does nothing, and those that only seem so."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox
from tests.support.faults import check_sound, freeze, wait_event, wait_gone
from tests.support.stub import quick_health, stub_flags
from tests.support.waiting import eventually


def check(box: DaemonBox) -> int:
    """What `codexd status --check` says."""
    return box.run("status", "--check").returncode


def test_a_hung_plugin_is_noticed_and_replaced_and_on_record(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), *quick_health())
    box.start()
    child, plugin = box.wait_ready(), box.plugin()
    freeze(plugin)
    assert check(box) == 3
    assert "the hub does not answer" in box.run("status").stdout
    wait_gone(plugin.pid)
    (restarted,) = wait_event(box, "plugin.restarted")
    assert restarted["detail"]["endedPid"] == plugin.pid
    (unhealthy,) = box.events("plugin.unhealthy")
    assert unhealthy["detail"] == {"pid": plugin.pid}
    assert "said nothing" in unhealthy["message"]
    eventually(lambda: check(box) == 0, what="a hub that answers")
    assert check_sound(box)["pid"] == child["pid"]


def test_one_that_is_killed_is_on_record_too(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    box.start()
    plugin = box.plugin()
    plugin.kill()
    (restarted,) = wait_event(box, "plugin.restarted")
    assert restarted["detail"] == {"pid": box.plugin().pid, "endedPid": plugin.pid}
    assert box.events("plugin.unhealthy") == []


def test_a_circusd_that_stood_still_holds_nothing_against_its_plugin(make_box: MakeBox) -> None:
    box = make_box(*stub_flags(), *quick_health())
    box.start()
    assert box.process is not None
    plugin, daemon = box.plugin(), psutil.Process(box.process.pid)
    # Longer than the plugin may be silent; both stand still, as in a suspended laptop.
    for process in (daemon, plugin):
        freeze(process)
    time.sleep(6)
    daemon.resume()
    plugin.resume()
    eventually(lambda: check(box) == 0, what="a hub that answers")
    assert box.plugin().pid == plugin.pid


def test_a_plugin_that_stays_hung_does_not_hold_up_the_end_for_long(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    box.start()
    plugin = box.plugin()
    done = threading.Event()

    def keep_stopped() -> None:
        # The end wakes what is stopped; what hangs stays hung.
        while not done.wait(0.005):
            try:
                os.kill(plugin.pid, signal.SIGSTOP)
            except ProcessLookupError:
                return

    thread = threading.Thread(target=keep_stopped)
    thread.start()
    begun = time.monotonic()
    try:
        result = box.run("stop")
    finally:
        done.set()
        thread.join()
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - begun < 15
    state = box.read("daemon-state.json")
    assert state is not None
    assert state["started"] is False
    box.wait_for_nobody()
