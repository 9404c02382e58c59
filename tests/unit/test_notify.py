from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from codexd.platform.notify import ServiceManager


def test_messages_reach_the_manager_and_its_variables_go_no_further(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        environ = {
            "NOTIFY_SOCKET": path,
            "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": str(os.getpid()),
            "HOME": "/h",
        }
        service = ServiceManager(environ)
        assert environ == {"HOME": "/h"}
        assert service.watchdog_interval_s == 1.5
        service.ready("up")
        assert manager.recv(100) == b"READY=1\nSTATUS=up"
        service.alive()
        assert manager.recv(100) == b"WATCHDOG=1"
        service.stopping()
        assert manager.recv(100) == b"STOPPING=1"


def test_without_a_manager_nothing_is_sent_and_nothing_fails() -> None:
    service = ServiceManager({"WATCHDOG_USEC": "x"})
    service.ready("up")
    assert service.watchdog_interval_s is None


@pytest.mark.parametrize("odd", ["²", "٣", "-1", "1.5", "9" * 5000, ""])
def test_a_watchdog_time_that_is_no_number_is_none(odd: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": odd})
    assert service.watchdog_interval_s is None
    service.ready("a path may hold \udcff")


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    service = ServiceManager(
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    )
    assert service.watchdog_interval_s is None
    service.ready("a manager that is gone is no error")
