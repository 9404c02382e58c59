"""Noticing that the other end of a TCP connection is gone without a word, as a phone may be."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

_IDLE_S: Final = 30
_INTERVAL_S: Final = 10
_PROBES: Final = 3
# As long for what was sent and is not acknowledged; the system alone would take a quarter of an
# hour (tcp(7)).
_UNACKNOWLEDGED_S: Final = 60
# macOS, netinet/tcp.h: what Linux calls TCP_KEEPIDLE, and TCP_USER_TIMEOUT in seconds.
_DARWIN_KEEPALIVE: Final = 0x10
_DARWIN_RXT_CONNDROPTIME: Final = 0x80


def end_when_vanished(connected: socket.socket) -> None:
    """Have the system end the connection about a minute after the other end is gone."""
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
    ]
    if sys.platform == "darwin":
        options.append((socket.IPPROTO_TCP, _DARWIN_KEEPALIVE, _IDLE_S))
        options.append((socket.IPPROTO_TCP, _DARWIN_RXT_CONNDROPTIME, _UNACKNOWLEDGED_S))
    else:
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S))
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_S * 1000))
    for level, name, value in options:
        # It may be gone already; and what a system does not have, it does without.
        with contextlib.suppress(OSError):
            connected.setsockopt(level, name, value)
