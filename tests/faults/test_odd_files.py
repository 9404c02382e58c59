"""Daemons with many odd files at once; see :mod:`.odd_files` for each file with each kind."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from codexd.client.http import ask_hub
from tests.faults.odd_files import KINDS, mixture, run_here
from tests.support.codex import short_directory
from tests.support.daemon import DaemonBox, daemon_box
from tests.support.faults import app_servers, check_sound
from tests.support.memory import fill, small_disk
from tests.support.odd import immutable
from tests.support.stub import stub_flags
from tests.support.waiting import eventually


@pytest.mark.parametrize("turn", [0, 7])
def test_odd_files_stop_nothing(turn: int) -> None:
    with short_directory() as root:
        run_here(root, mixture(turn), mixture(turn + len(KINDS) // 2))


def test_files_that_nobody_may_change_are_left_and_named() -> None:
    with short_directory() as root, daemon_box(root / "repo", *stub_flags()) as box:
        box.start()
        box.stop_cleanly()
        daemon_lock = box.state_dir / "daemon.lock"
        with immutable(daemon_lock) as done:
            if not done:
                pytest.skip("no file can be made immutable here")
            refused = box.run("start")
            assert refused.returncode == 1
            assert refused.stderr == f"codexd: Operation not permitted: {daemon_lock}\n"
            assert box.run("status").returncode == 0
        box.start()
        files = [box.state_dir / name for name in ("daemon-state.json", "recent-events.json")]
        files += [box.logs_dir / "events.jsonl", box.state_dir / "watcher.json"]
        # A state file follows its event a moment later.
        recent = "recent-events.json"
        eventually(
            lambda: (box.read(recent) or {"events": []})["events"][-1:] == box.events()[-1:],
            what="a cache of all events",
        )
        child = box.child()
        assert child is not None
        with immutable(*files):
            before = [path.read_bytes() for path in files]
            # Its end and the next start can be recorded nowhere, and yet there is a next one.
            os.kill(child["pid"], signal.SIGKILL)
            eventually(lambda: hub_child(box) not in (None, child["pid"]), what="another server")
            assert box.run("status").returncode == 0
            assert [path.read_bytes() for path in files] == before
        after = check_sound(box, other_than=child["pid"])
        assert after["pid"] == hub_child(box)
        assert [event["type"] for event in box.events("child.exited")][-1:] == ["child.exited"]
        eventually(lambda: box.run("status", "--check").returncode == 0, what="a true status")
        box.stop_cleanly()


def hub_child(box: DaemonBox) -> int | None:
    """The server that the hub says it has."""
    hub = ask_hub(box.config.runtime.hub_socket_path)
    return hub["childPid"] if hub and hub["ready"] else None


def test_a_state_directory_that_is_cleared_lets_no_second_daemon_in() -> None:
    with short_directory() as root, daemon_box(root / "repo", *stub_flags()) as box:
        box.start()
        child = check_sound(box)
        identity = box.read("identity.json")
        before = box.events()[-1]["seq"]
        for cleared in ("state", "logs"):
            shutil.rmtree(box.root / cleared)
            # At once, and again until everything is back: at no moment is it let in.
            for _ in range(3):
                refused = box.run("start")
                assert refused.returncode == 1
                assert "codexd already runs" in refused.stderr
                assert f"as pid {box.process.pid}" in refused.stderr if box.process else False
            eventually(lambda: box.run("status", "--check").returncode == 0, what="all again")
            assert app_servers(box) == [child["pid"]]
        assert box.read("identity.json") == identity
        recent = box.read("recent-events.json")
        assert recent is not None
        seqs = [event["seq"] for event in recent["events"]]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        shutil.rmtree(box.root / "state")
        assert box.run("stop").returncode == 0
        assert box.leftovers() == []
        assert box.events()[-1]["type"] == "daemon.stopped"
        assert box.events()[-1]["seq"] > before


def test_a_start_on_a_full_disk_names_it_in_one_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, size_kib=256):
        flags = (f"--state-dir={disk}/state", f"--logs-dir={disk}/logs")
        with daemon_box(tmp_path / "repo", *stub_flags(), *flags) as box:
            filler = fill(disk)
            refused = box.run("start")
            assert refused.returncode == 1
            assert re.fullmatch(
                rf"codexd: No space left on device: the disk at {disk}, for {disk}/\S+\n",
                refused.stderr,
            )
            assert box.run("status").returncode == 0
            filler.unlink()
            box.start(wait=False)
            eventually(lambda: box.run("status", "--check").returncode == 0, what="a daemon")
            box.stop_cleanly()


def test_a_daemon_that_was_killed_is_on_record_as_stopped() -> None:
    with short_directory() as root, daemon_box(root / "repo", *stub_flags()) as box:
        process = box.start()
        box.note_processes()
        process.kill()
        process.wait()
        box.wait_for_nobody()
        box.start()
        box.stop_cleanly()
        types = [event["type"] for event in box.events("daemon.started", "daemon.stopped")]
        assert types == ["daemon.started", "daemon.stopped"] * 2
