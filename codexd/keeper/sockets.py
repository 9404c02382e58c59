"""Where the plugin is reached: codexd.sock, and what else it was told to serve."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from codexd.api.exchange import HttpService
from codexd.api.server import HubServer, ServerLimits
from codexd.api.websocket import HubAdapter
from codexd.link.endpoint import default_control_socket
from codexd.platform.files import explain
from codexd.settings import Policy

logger = logging.getLogger("codexd")

_HEAL_S = 1.0


def socket_paths(own: str, *, on_the_default: bool) -> list[str]:
    """The Unix sockets that are to be served: codexd's own, and maybe the vendor's."""
    return [own, default_control_socket(os.environ)] if on_the_default else [own]


class Sockets:
    """Serves every path, also one whose socket was taken away, or was somebody else's for a while.

    ``adapter`` hears the hub's clients, ``service`` answers HTTP, ``event`` records.
    """

    def __init__(
        self,
        adapter: HubAdapter,
        service: HttpService,
        paths: list[str],
        policy: Policy,
        event: Callable[[Any, str, str, dict[str, Any]], None],
    ) -> None:
        self._record = event
        limits = ServerLimits(
            backlog_bytes=policy.hub_backlog_bytes,
            head_timeout_s=policy.hub_initialize_ms / 1000,
        )
        self._server = HubServer(
            adapter, service, limits, on_cut=self._on_cut, on_full=self._on_full
        )
        self._loop = asyncio.get_event_loop()
        self._unserved = list(paths)
        # Why, for those that somebody else serves, say.
        self._refusals: dict[str, str] = {}
        self._healing: asyncio.Task[None] | None = None
        self._heal_at = 0.0
        # How many clients were cut off because they did not read.
        self.cut = 0

    @property
    def unserved(self) -> list[dict[str, str]]:
        """Every path that is not served, and why."""
        return [{"path": path, "reason": why} for path, why in self._refusals.items()]

    async def start(self) -> None:
        """Let clients in."""
        await self._heal()

    async def stop(self) -> None:
        """Send the clients away."""
        if self._healing is not None:
            self._healing.cancel()
            await asyncio.gather(self._healing, return_exceptions=True)
        await self._server.close()

    def tick(self) -> None:
        """Time passes; call it some times a second."""
        now = self._loop.time()
        if now >= self._heal_at and (self._healing is None or self._healing.done()):
            self._heal_at = now + _HEAL_S
            self._healing = self._loop.create_task(self._heal_again())

    async def _heal_again(self) -> None:
        try:
            await self._heal()
        except Exception:
            logger.exception("the sockets of the hub could not be looked after")

    async def _heal(self) -> None:
        try:
            await self._server.heal()
        except OSError as error:
            logger.warning("%s", error)
        for path in list(self._unserved):
            try:
                await self._server.listen(path)
                self._unserved.remove(path)
                self._refusals.pop(path, None)
            except OSError as error:
                self._complain(path, error)

    def _complain(self, path: str, error: OSError) -> None:
        """Once for each trouble: the path is tried again every second."""
        is_new = path not in self._refusals
        why = explain(error)
        self._refusals[path] = why
        if is_new:
            message = f"The socket {path} cannot be served: {why}"
            self._record("error", "hub.socket.failed", message, {"path": path})

    def _on_cut(self, client: int | None, unread: int) -> None:
        self.cut += 1
        message = f"A client was cut off: it left {unread} bytes unread."
        self._record("warn", "client.cut", message, {"client": client, "unreadBytes": unread})

    def _on_full(self, connections: int) -> None:
        message = (
            f"{connections} connections use up the open files that codexd may have: "
            "those that say nothing are ended, and no client more can stay."
        )
        self._record("warn", "hub.full", message, {"connections": connections})
