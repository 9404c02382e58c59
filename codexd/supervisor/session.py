"""A session of the daemon's own, without a thread: the smoke test opens one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import msgspec

from codexd.config import Paths
from codexd.contracts import SessionPurpose
from codexd.store.snapshot import read_daemon, read_sessions

_POLL_S = 0.05
# The stub of the smoke test gives up after ten seconds itself.
_END_S = 15.0


class NewSession(msgspec.Struct, frozen=True):
    """What the plugin, which alone writes while it runs, is to register."""

    session_id: str
    purpose: SessionPurpose
    metadata: dict[str, str]


async def register(
    paths: Paths, session: NewSession, publish: Callable[[str, dict[str, Any]], object]
) -> None:
    """Have ``session`` registered, with the child that is on record by then.

    ``publish(topic, message)`` sends a message on circus's event stream. One that comes before
    the plugin listens is lost, so it is sent until the session is there.
    """
    while True:
        daemon = read_daemon(paths)
        if daemon is not None and daemon.pid == os.getpid() and daemon.child.pid is not None:
            publish("session", msgspec.structs.asdict(session))
        await asyncio.sleep(_POLL_S)
        known = read_sessions(paths).sessions
        if any(entry.session_id == session.session_id for entry in known):
            return


async def await_end(paths: Paths) -> None:
    """Wait for the end of the child, which ends by itself once its session is on record.

    However slow the machine is: whoever ends it sooner cannot tell whether it works.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _END_S
    while loop.time() < until:
        daemon = read_daemon(paths)
        if daemon is not None and daemon.pid == os.getpid() and daemon.child.exited_at is not None:
            return
        await asyncio.sleep(_POLL_S)
