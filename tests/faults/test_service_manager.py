"""What the daemon tells the manager that started it, and what its exit code makes that one do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import MakeBox
from tests.support.codex import short_directory
from tests.support.daemon import DaemonBox
from tests.support.faults import check_sound, freeze
from tests.support.stub import backoff, stub_flags
from tests.support.waiting import eventually

WATCHDOG_US = 400_000


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    @property
    def variables(self) -> dict[str, str]:
        """What the manager puts into the environment of the service."""
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(WATCHDOG_US)}

    def next(self, *, but: str = "WATCHDOG=1") -> str:
        """The next message that is another than ``but``."""
        while (text := self._socket.recv(4096).decode()) == but:
            pass
        return text

    def is_silent(self) -> bool:
        """Whether nothing comes for as long as the watchdog allows."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(4096)
        self._socket.settimeout(WATCHDOG_US / 1e6)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(20)
        return False

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    with short_directory() as place:
        manager = Manager(place / "notify")
        yield manager
        manager.close()


def test_ready_alive_and_stopping_are_told_and_the_child_knows_nothing_of_it(
    make_box: MakeBox, manager: Manager
) -> None:
    box = make_box(*stub_flags(), env=manager.variables)
    process = box.start()
    assert manager.next() == "READY=1\nSTATUS=ready"
    assert manager.next(but="") == "WATCHDOG=1"
    pid = check_sound(box)["pid"]
    for each in (pid, box.plugin().pid):
        assert not set(psutil.Process(each).environ()) & {"NOTIFY_SOCKET", "WATCHDOG_USEC"}

    # A circusd that hangs is not called alive: the manager will replace it.
    daemon = psutil.Process(process.pid)
    freeze(daemon)
    assert manager.is_silent()
    daemon.resume()
    assert manager.next(but="") == "WATCHDOG=1"
    assert box.stop() == 0
    assert manager.next() == "STOPPING=1"


def test_a_server_that_cannot_start_does_not_keep_the_daemon_from_being_up(
    make_box: MakeBox, manager: Manager
) -> None:
    box = make_box(*stub_flags("exit=3"), *backoff(60_000, 60_000), env=manager.variables)
    box.start(wait=False)
    assert manager.next() == "READY=1\nSTATUS=Child exited with code 3."
    shown = manager.next()
    assert shown.startswith("STATUS=the server is failed: Child exited with code 3.")
    assert box.stop() == 0


def test_what_the_manager_shows_follows_the_server(make_box: MakeBox, manager: Manager) -> None:
    box = make_box(*stub_flags("exit=3@broken"), *backoff(60_000, 60_000), env=manager.variables)
    box.start()
    assert manager.next() == "READY=1\nSTATUS=ready"
    (box.root / "broken").touch()
    os.kill(box.wait_ready()["pid"], signal.SIGKILL)
    shown = eventually(lambda: _failed(manager), what="a crash loop that is shown")
    assert "Next try at" in shown
    assert box.stop() == 0


def _failed(manager: Manager) -> str | None:
    shown = manager.next()
    return shown if shown.startswith("STATUS=the server is failed") else None


def exit_code(box: DaemonBox, *flags: str) -> int:
    return box.start(*flags, wait=False).wait(30)


def test_exit_codes_tell_a_wrong_configuration_from_what_may_pass(make_box: MakeBox) -> None:
    box = make_box(*stub_flags())
    assert exit_code(box, "--mode", "nonsense") == 2
    assert exit_code(box, "--server-cwd", "/no/such/directory") == 2
    assert exit_code(box, "--server-endpoint", "ftp://x") == 2
    # A program that is being upgraded is there again soon.
    assert exit_code(box, "--server-command", "/no/such/program") == 1
    daemon = box.start()
    check_sound(box)
    second = box.run("start")
    assert second.returncode == 1
    daemon.send_signal(signal.SIGKILL)
    assert daemon.wait(10) == -signal.SIGKILL
    daemon = box.start()
    check_sound(box)
    os.kill(daemon.pid, signal.SIGTERM)
    assert daemon.wait(30) == 0
