"""An idle daemon sleeps: how often its two processes wake up while nobody wants anything."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.conftest import MakeBox
from tests.support.daemon import DaemonBox
from tests.support.figures import wake_ups
from tests.support.stub import stub_flags
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of changes")

_WINDOW_S = 3.0
# What is so on a quiet machine is 2 a second; a tick of a second more would be 5.
_WAKE_UPS = 15


def in_a_window(box: DaemonBox) -> int:
    assert box.process is not None
    pids = [box.process.pid, box.plugin().pid]
    before = wake_ups(pids)
    # What is measured is time: nothing else can be waited for.
    time.sleep(_WINDOW_S)
    return wake_ups(pids) - before


def test_an_idle_daemon_sleeps_and_still_sees_what_is_taken_away(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    box.start()
    box.wait_ready()
    eventually(lambda: in_a_window(box) <= _WAKE_UPS, what="a daemon that sleeps", within_s=60)
    places = [Path(box.config.runtime.hub_socket_path), box.state_dir / "identity.json"]
    places.append(Path(box.config.runtime.circus_endpoint.removeprefix("ipc://")))
    for place in places:
        place.unlink()
    eventually(lambda: all(place.exists() for place in places), what="all that was taken away")
