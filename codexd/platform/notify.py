"""Telling systemd how the daemon does (sd_notify(3)); elsewhere, telling nobody."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

# Meant for the daemon's own process alone.
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """The manager that started this process, if it is one that listens.

    Takes its variables out of ``environ``: they are meant for this process alone, not for the
    child and what the child runs.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address, microseconds, pid = (environ.pop(name, "") for name in VARIABLES)
        is_ours = pid in ("", str(os.getpid()))
        # 20 digits hold every number that systemd can mean; isdigit alone takes ² for one.
        is_number = microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= 20
        self._watchdog_s = int(microseconds) / 1e6 if is_number and is_ours else None

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often to call :meth:`alive`: half of what the manager allows; None for never."""
        return None if not self._watchdog_s or not self._address else self._watchdog_s / 2

    def ready(self, status: str) -> None:
        """The daemon is up; ``status`` is one line for people."""
        self._send(f"READY=1\nSTATUS={status}")

    @property
    def listens(self) -> bool:
        """Whether there is a manager to tell."""
        return bool(self._address)

    def status(self, status: str) -> None:
        """How the daemon does now, in one line for people."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The daemon ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The daemon's loop turns."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # An @ stands for the NUL of Linux's abstract sockets.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode("utf-8", "replace"), address)
