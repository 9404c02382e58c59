"""The plugin dies, or is restarted, in the middle: nothing it missed stays wrong."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from codexd.circus_ext import early
from tests.support.client import AppClient
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

PLUGIN = "plugin:codexd"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonBox]:
    with daemon_box(tmp_path_factory.mktemp("plugin") / "repo") as box:
        box.start()
        yield box
        box.stop_cleanly()
        events = box.events()
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        started = Counter(event["detail"]["pid"] for event in box.events("child.started"))
        exited = Counter(event["detail"]["pid"] for event in box.events("child.exited"))
        assert set(started.values()) == {1}
        assert exited == started
        kinds = Counter(event["type"] for event in events)
        assert (kinds["daemon.started"], kinds["daemon.stopped"]) == (1, 1)


def ctl(box: DaemonBox, *words: str) -> str:
    """Run `codexd ctl`; what it prints."""
    done = box.run("ctl", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def other_plugin(box: DaemonBox, before: psutil.Process) -> psutil.Process:
    """The plugin that took over from ``before``, once it serves clients."""

    def look() -> psutil.Process | None:
        now = box.plugin()
        is_other = now.pid != before.pid and not before.is_running()
        return now if is_other and box.run("status", "--check").returncode == 0 else None

    found = eventually(look, what="another plugin")
    eventually(lambda: _hub(box), what="a hub that answers")
    return found


def talk(box: DaemonBox) -> None:
    """One client shakes hands with the server and uses it."""
    client = AppClient(box.config.runtime.hub_socket_path)
    assert client.call("thread/loaded/list")["data"] is not None
    client.close()


def test_a_killed_plugin_comes_back_and_the_child_never_notices(box: DaemonBox) -> None:
    before, seen = box.wait_ready(), len(box.events())
    plugin = box.plugin()
    plugin.kill()
    # This one circus starts itself, and nobody is to tell it when.
    assert early.VARIABLE not in other_plugin(box, plugin).environ()
    after = box.wait_ready()
    assert after["pid"] == before["pid"]
    assert (after["startedAt"], after["restarts"]) == (before["startedAt"], before["restarts"])
    talk(box)
    new = {event["type"] for event in box.events()[seen:]}
    assert not new & {"child.started", "child.exited", "daemon.started"}


def test_a_child_that_dies_with_the_plugin_is_recorded_once(box: DaemonBox) -> None:
    before = box.wait_ready()
    plugin = box.plugin()
    plugin.kill()
    os.kill(before["pid"], signal.SIGKILL)
    after = box.wait_ready(other_than=before["pid"])
    other_plugin(box, plugin)
    assert after["restarts"] == before["restarts"] + 1
    assert _exits(box)[before["pid"]] == "SIGKILL"
    talk(box)


def test_what_happens_while_there_is_no_plugin_is_recorded_once_it_is_back(
    box: DaemonBox,
) -> None:
    before = box.wait_ready()
    plugin = box.plugin()
    assert ctl(box, "stop", PLUGIN) == "ok"
    eventually(lambda: not plugin.is_running(), what="no plugin")
    # Two children die; circus alone sees it.
    os.kill(before["pid"], signal.SIGKILL)
    second = eventually(lambda: _pid(box, before["pid"]), what="a second child")
    os.kill(second, signal.SIGKILL)
    third = eventually(lambda: _pid(box, second), what="a third child")
    assert box.run("status", "--json").returncode == 0

    assert ctl(box, "start", PLUGIN) == "ok"
    after = box.wait_ready(other_than=before["pid"])
    assert after["pid"] == third
    assert after["restarts"] == before["restarts"] + 2
    exits = _exits(box)
    assert (exits[before["pid"]], exits[second]) == ("SIGKILL", "SIGKILL")
    assert third not in exits
    talk(box)


def test_a_child_that_was_stopped_meanwhile_is_known_to_be(box: DaemonBox) -> None:
    before = box.wait_ready()
    assert ctl(box, "stop", PLUGIN) == "ok"
    assert ctl(box, "stop", "codex-app-server") == "ok"
    eventually(lambda: not psutil.pid_exists(before["pid"]), what="no child")
    # The files are old now, and nobody is deceived by them.
    assert " child=running " not in box.run("status").stdout
    assert ctl(box, "start", PLUGIN) == "ok"
    child = eventually(lambda: _stopped(box), what="the record of the stop")
    assert (child["pid"], child["exitCode"], child["ready"]) == (None, 0, False)
    assert ctl(box, "start", "codex-app-server") == "ok"
    box.wait_ready(other_than=before["pid"])


def test_a_restart_of_the_plugin_is_quick_and_harmless(box: DaemonBox) -> None:
    before, plugin = box.wait_ready(), box.plugin()
    begun = time.monotonic()
    assert ctl(box, "restart", PLUGIN) == "ok"
    other_plugin(box, plugin)
    # It is not waited for that the one before lets go of the files, which it may take 30 s over.
    assert time.monotonic() - begun < 25
    after = box.wait_ready()
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])
    talk(box)


def _hub(box: DaemonBox) -> bool:
    from codexd.client.http import ask_hub

    return ask_hub(box.config.runtime.hub_socket_path) is not None


def _exits(box: DaemonBox) -> dict[int, str | None]:
    details = [event["detail"] for event in box.events("child.exited")]
    return {detail["pid"]: detail["signal"] for detail in details}


def _pid(box: DaemonBox, other_than: int) -> int | None:
    found = ctl(box, "list", "codex-app-server")
    return int(found) if found.isdigit() and int(found) != other_than else None


def _stopped(box: DaemonBox) -> dict[str, Any] | None:
    child = box.child()
    return child if child is not None and child["status"] == "stopped" else None
