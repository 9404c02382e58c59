"""Making the runtime directory again when it vanishes under a running circusd."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import zmq
from circus import logger

from codexd import runtime
from codexd.config import Config

_PERIOD_S = 1.0


def keep_runtime(arbiter: Any, config: Config, restore_pipes: Callable[[], None]) -> None:
    """From now on look every second whether circus's sockets still have their names.

    ``restore_pipes()`` is called as often and does the same for the child's pipes.
    """
    sockets = (
        (arbiter.ctrl.ctrl_socket, config.runtime.circus_endpoint),
        (arbiter.evpub_socket, config.runtime.circus_pubsub_endpoint),
    )
    trouble = ""

    def look() -> None:
        nonlocal trouble
        try:
            for socket, endpoint in sockets:
                _bind_again(socket, endpoint, config)
            restore_pipes()
            trouble = ""
        except (OSError, zmq.ZMQError) as error:
            if str(error) != trouble:
                trouble = str(error)
                logger.error("the runtime directory cannot be made again: %s", error)
        finally:
            arbiter.loop.call_later(_PERIOD_S, look)

    arbiter.loop.call_later(_PERIOD_S, look)


def _bind_again(socket: Any, endpoint: str, config: Config) -> None:
    if os.path.lexists(endpoint.removeprefix("ipc://")):
        return
    runtime.make_directories(config)
    # The old name is not given up first: ZeroMQ would take it away later, from another thread,
    # and with it the new socket.
    socket.bind(endpoint)
    logger.warning("made %s again", endpoint)
