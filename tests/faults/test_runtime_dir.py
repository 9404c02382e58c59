"""The runtime directory: gone, too long to be, full of what others left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeBox
from tests.support.codex import CodexServer, short_directory
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.faults import check_sound, runtime_dir
from tests.support.stub import stub_flags
from tests.support.waiting import eventually


def is_whole(box: DaemonBox) -> bool:
    """Whether circus and the hub both answer."""
    status = box.run("ctl", "status", "codex-app-server")
    ready = box.run("status", "--json")
    return status.stdout.strip() == "active" and '"ready": true' in ready.stdout.split('"live"')[1]


def vanish(place: Path) -> None:
    """Remove it at one stroke: the daemon makes another meanwhile, and puts its own in there."""
    gone = place.with_name("gone")
    place.rename(gone)
    shutil.rmtree(gone)


def test_a_runtime_directory_that_vanishes_is_made_again_under_the_running_child(
    make_box: MakeBox,
) -> None:
    box = make_box(*stub_flags())
    box.start()
    child = check_sound(box)
    place = runtime_dir(box)
    vanish(place)
    eventually(lambda: is_whole(box), what="circus and the hub on new sockets")
    assert place.stat().st_mode & 0o777 == 0o700
    assert check_sound(box)["pid"] == child["pid"]

    # A plugin that starts now finds the pipes of a child that started before.
    if sys.platform == "linux":
        box.plugin().kill()
        eventually(lambda: box.plugin().is_running(), what="another plugin")
        eventually(lambda: is_whole(box), what="a plugin that speaks with the child")
        assert check_sound(box)["pid"] == child["pid"]

    vanish(place)
    os.kill(child["pid"], signal.SIGKILL)
    after = check_sound(box, other_than=child["pid"])
    assert box.run("ctl", "restart", "--waiting", "codex-app-server").returncode == 0
    check_sound(box, other_than=after["pid"])
    vanish(place)
    assert box.run("stop").returncode == 0
    assert box.leftovers() == []
    assert not place.exists()


# macOS has no /proc/self/fd by which the pipes get their names back.
AS_ON_MACOS = """
import codexd.child.pipes as pipes
pipes.NAMED_AGAIN_S = 0.0
pipes.ChildPipes.name_again = lambda *_: None
"""


def test_a_child_that_no_plugin_can_hear_is_replaced_at_once(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    (box.root / "sitecustomize.py").write_text(AS_ON_MACOS)
    box.env["PYTHONPATH"] = str(box.root)
    box.start()
    child = check_sound(box)
    vanish(runtime_dir(box))
    # The plugin that holds its pipes can still hear it.
    eventually(lambda: is_whole(box), what="circus and the hub on new sockets")
    assert check_sound(box)["pid"] == child["pid"]
    box.plugin().kill()
    check_sound(box, other_than=child["pid"])
    (event,) = box.events("child.unhealthy")
    assert "pipes are gone" in event["message"]
    assert box.run("stop").returncode == 0
    assert box.leftovers() == []


def test_an_external_server_is_watched_on_after_the_directory_vanished(make_box: MakeBox) -> None:
    with short_directory() as place:
        server = CodexServer(place)
        box = make_box("--server-strategy=external", f"--server-endpoint={server.endpoint}")
        try:
            server.start_ready()
            box.start()
            vanish(runtime_dir(box))
            eventually(
                lambda: box.run("ctl", "status", "plugin:codexd").stdout.strip() == "active",
                what="circus on a new socket",
            )
            # The hub's socket is made again by the plugin, in its own time.
            eventually(lambda: box.run("status", "--check").returncode == 0, what="the hub")
            box.stop_cleanly()
        finally:
            server.kill()


def test_a_state_directory_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-directory-with-a-long-name"] * 4)
    deep.mkdir(parents=True)
    with daemon_box(deep / "repo", *stub_flags()) as box:
        box.start()
        place = runtime_dir(box)
        assert str(place).startswith(f"/tmp/codexd-{os.getuid()}/")
        assert place.stat().st_mode & 0o777 == 0o700
        assert is_whole(box)
        box.stop_cleanly()
        assert not place.exists()


@pytest.fixture
def box() -> Iterator[DaemonBox]:
    """A box whose runtime directory is below its state directory, wherever the suite runs."""
    with short_directory() as place, daemon_box(place / "repo", *stub_flags()) as box:
        yield box


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_runtime_directory_of_somebody_else_is_not_used(box: DaemonBox) -> None:
    place = runtime_dir(box)
    place.mkdir(parents=True, mode=0o755)
    os.chown(place, 12345, 12345)
    result = box.run("start")
    assert result.returncode == 1
    assert "belongs to someone else" in result.stderr
    assert list(place.iterdir()) == []
    assert place.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("written", [b"", b"{", b'{"pid": 1, "token": "x"}'])
def test_what_was_left_in_the_directory_is_no_obstacle(box: DaemonBox, written: bytes) -> None:
    place = runtime_dir(box)
    place.mkdir(parents=True)
    for name in ("circus.sock", "events.sock", "codexd.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(place / name))
    pipes = place / "io" / "101"
    pipes.mkdir(parents=True)
    for name in ("stdin", "stdout", "stderr"):
        os.mkfifo(pipes / name)
    (place / "circus.ini").write_bytes(b"[nonsense")
    (place / "handshake.json").write_bytes(written)
    for name in ("daemon.lock", "writer.lock", "watcher.json"):
        (box.state_dir / name).write_bytes(written)
    box.start()
    check_sound(box)
    box.stop_cleanly()
    assert not place.exists()
