"""Making the directories, the lock and the sockets again that vanish under a running circusd."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import zmq
from circus import logger

from codexd import runtime
from codexd.config import Paths, Runtime
from codexd.platform.files import PRIVATE_FILE
from codexd.platform.lock import LockedElsewhere


def keeper_of_runtime(
    arbiter: Any, paths: Paths, place: Runtime, look_after: Callable[[], None]
) -> Callable[[], bool]:
    """A function that sees that lock and sockets of circusd have their names; for every second.

    It calls ``look_after()``, which does the same for what the child needs, and returns whether all
    is well.
    """
    sockets = (
        (arbiter.ctrl.ctrl_socket, place.circus_endpoint),
        (arbiter.evpub_socket, place.circus_pubsub_endpoint),
    )
    trouble = ""

    def look() -> bool:
        nonlocal trouble
        try:
            runtime.keep(paths, place)
            for socket, endpoint in sockets:
                if not os.path.lexists(endpoint.removeprefix("ipc://")):
                    runtime.make_directories(paths, place)
                    _bind_again(socket, endpoint)
            look_after()
            trouble = ""
        except (OSError, LockedElsewhere, zmq.ZMQError) as error:
            if str(error) != trouble:
                trouble = str(error)
                logger.error("the directories cannot be made again: %s", error)
        return not trouble

    for _, endpoint in sockets:
        _make_private(endpoint)
    return look


def _bind_again(socket: Any, endpoint: str) -> None:
    # The old name is not given up first: ZeroMQ would take it away later, from another thread,
    # and with it the new socket.
    socket.bind(endpoint)
    _make_private(endpoint)
    logger.warning("made %s again", endpoint)


def _make_private(endpoint: str) -> None:
    # ZeroMQ goes by the umask, which is the child's. Until here the directory keeps others out.
    with contextlib.suppress(OSError):
        os.chmod(endpoint.removeprefix("ipc://"), PRIVATE_FILE)
