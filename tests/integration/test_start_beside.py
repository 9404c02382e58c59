"""Who else is there when a daemon starts: the original codexd, another on the same CODEX_HOME."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import pytest

from tests.conftest import MakeBox
from tests.support.codex import RawClient, short_directory
from tests.support.daemon import DaemonBox
from tests.support.scaffold import DAEMON_ID, ScaffoldBox
from tests.support.stub import stub_flags
from tests.support.waiting import eventually


@pytest.fixture
def box(make_box: MakeBox) -> DaemonBox:
    return make_box(*stub_flags())


@pytest.fixture
def scaffold(box: DaemonBox) -> Iterator[ScaffoldBox]:
    made = ScaffoldBox(box.root)
    yield made
    made.clean_up()


def test_a_daemon_of_the_original_is_told_and_left_alone(
    box: DaemonBox, scaffold: ScaffoldBox
) -> None:
    daemon, child = scaffold.run_daemon(), scaffold.run_child(mark=DAEMON_ID)
    scaffold.record(daemon.pid, child.pid)
    before = (box.state_dir / "daemon-state.json").read_bytes()

    status = box.run("status")
    assert " daemon=running child=running " in status.stdout
    assert f"original codexd (pid {daemon.pid})" in status.stdout
    assert json.loads(box.run("status", "--json").stdout)["live"]["daemonPid"] == daemon.pid
    assert box.run("status", "--check").returncode == 3

    refused = box.run("start")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert f"kill {daemon.pid}" in line
    assert (daemon.poll(), child.poll()) == (None, None)
    assert (box.state_dir / "daemon-state.json").read_bytes() == before
    detached = box.run("start", "--detach")
    assert detached.returncode == 1
    assert f"kill {daemon.pid}" in detached.stderr


def test_the_orphan_of_a_killed_original_is_ended(box: DaemonBox, scaffold: ScaffoldBox) -> None:
    daemon, child = scaffold.run_daemon(), scaffold.run_child(mark=DAEMON_ID)
    scaffold.record(daemon.pid, child.pid)
    daemon.kill()
    daemon.wait(10)
    status = box.run("status")
    assert " daemon=stopped child=running " in status.stdout
    assert f"the server (pid {child.pid}) lives without its daemon" in status.stdout
    box.start(wait=False)
    assert child.wait(10) != 0
    eventually(lambda: box.events("child.ready"), what="a ready child")
    assert f"ending process {child.pid}" in box.errors()
    (ended,) = box.events("child.exited")
    assert ended["seq"] < box.events("child.started")[0]["seq"]
    box.stop_cleanly()


def test_a_second_daemon_on_a_codex_home_is_refused_until_the_first_ends(
    make_box: MakeBox,
) -> None:
    first = make_box(*stub_flags(), name="first")
    first.start()
    second = make_box(*stub_flags(), name="second")
    for name in ("CODEX_HOME", "XDG_STATE_HOME"):
        second.env[name] = first.env[name]
    refused = second.run("start")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert first.process is not None
    assert f"pid {first.process.pid}" in line
    assert f"codexd stop --state-dir {first.root}/state" in line
    # What the line says works.
    assert second.run("stop", "--state-dir", f"{first.root}/state").returncode == 0
    second.start()
    second.stop_cleanly()
    first.wait_for_nobody()


def test_who_serves_the_vendors_socket_is_told_until_they_go(make_box: MakeBox) -> None:
    with short_directory() as home:
        box = make_box(*stub_flags(), "--hub-default-socket", "true", env={"CODEX_HOME": str(home)})
        control = home / "app-server-control/app-server-control.sock"
        control.parent.mkdir()
        # As the vendor's daemon leaves it: a link, to a socket elsewhere.
        control.symlink_to(home / "elsewhere.sock")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(home / "elsewhere.sock"))
            other.listen()
            box.start()
            said = f"pid {os.getpid()}"
            assert said in box.errors()
            assert "Stop it with" in box.errors()
            assert said in box.run("status").stdout
            assert box.run("status", "--check").returncode == 3
            assert said in box.events("hub.socket.failed")[0]["message"]
        # Now it is dead, and codexd's.
        eventually(lambda: box.run("status", "--check").returncode == 0, what="a served socket")
        with contextlib.closing(RawClient(str(control))) as client:
            client.initialize()
        assert said not in box.run("status").stdout
        box.stop_cleanly()


def test_the_vendors_daemon_on_the_same_codex_home_is_told(make_box: MakeBox) -> None:
    with short_directory() as home:
        box = make_box(*stub_flags(), env={"CODEX_HOME": str(home)})
        control = home / "app-server-control/app-server-control.sock"
        control.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(control))
            other.listen()
            box.start()
        assert f"(pid {os.getpid()}" in box.errors()
        assert "serves the same CODEX_HOME" in box.errors()
        # It is told, and does not keep anybody from anything.
        assert box.run("status", "--check").returncode == 0
        box.stop_cleanly()
