"""The route of the daemon's status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codexd.api.http import Access, Call
from codexd.api.table import Nothing, route


class StatusRoutes:
    """``status`` gives what `codexd status --json` prints, and what the hub tells."""

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    @route("GET", "/v1/status", Access.READ, answer=dict[str, Any])
    async def status(self, call: Call[Nothing, None]) -> dict[str, Any]:
        """Tell what the daemon, its server and the hub are doing."""
        del call
        return self._status()
