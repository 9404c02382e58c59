"""The routes for whoever only wants to know whether it works."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from codexd.api.http import Access, Answer, Call
from codexd.api.table import Nothing, route

_UNREADY: Final = HTTPStatus.SERVICE_UNAVAILABLE


class Alive(msgspec.Struct):
    """The plugin answers."""

    alive: bool


class Ready(msgspec.Struct):
    """Whether a request to the server would be answered now."""

    ready: bool


class HealthRoutes:
    """``is_ready`` tells whether a client's request to the server is answered now."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    @route("GET", "/healthz", Access.OPEN, answer=Alive)
    async def healthz(self, call: Call[Nothing, None]) -> Alive:
        """Tell that the plugin lives."""
        del call
        return Alive(alive=True)

    @route(
        "GET", "/readyz", Access.OPEN, answer=Ready, also={HTTPStatus.SERVICE_UNAVAILABLE: Ready}
    )
    async def readyz(self, call: Call[Nothing, None]) -> Answer:
        """Tell whether the server answers: 200, or 503."""
        del call
        if self._is_ready():
            return Answer(Ready(ready=True))
        return Answer(Ready(ready=False), _UNREADY)
