"""Where the plugin is reached: codexd.sock, and what else it was told to serve."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from codexd.api.connection import Visitor
from codexd.api.page_access import PageAccess
from codexd.api.server import HubServer, ServerLimits
from codexd.api.websocket import Cork, HubAdapter
from codexd.config import Paths
from codexd.link.endpoint import default_control_socket
from codexd.platform.files import explain
from codexd.settings import Policy

if TYPE_CHECKING:
    from codexd.keeper.network import Network

logger = logging.getLogger("codexd")

# How long the others wait for the TCP listener.
_OPEN_S = 1.0


def socket_paths(own: str, *, on_the_default: bool) -> list[str]:
    """The Unix sockets that are to be served: codexd's own, and maybe the vendor's."""
    return [own, default_control_socket(os.environ)] if on_the_default else [own]


def tcp_listener(
    policy: Policy,
    paths: Paths,
    runtime_dir: str,
    service: Visitor,
    page: PageAccess,
    event: Callable[[Any, str, str, dict[str, Any]], None],
) -> Network | None:
    """The TCP listener that is to be served; who has none loads nothing of it."""
    if not policy.hub_listen:
        return None
    from codexd.keeper.network import Network

    return Network(policy, paths, runtime_dir, service, page, event)


class Sockets:
    """Serves every path, also one whose socket was taken away, or was somebody else's for a while.

    ``adapter`` hears the hub's clients, ``service`` answers HTTP, ``event`` records; ``network`` is
    the TCP listener, where there is one, ``cork`` keeps what clients are told in one go together.
    """

    def __init__(
        self,
        adapter: HubAdapter,
        service: Visitor,
        paths: list[str],
        policy: Policy,
        event: Callable[[Any, str, str, dict[str, Any]], None],
        network: Network | None = None,
        cork: Cork | None = None,
    ) -> None:
        self._record = event
        self._network = network
        limits = ServerLimits(
            backlog_bytes=policy.hub_backlog_bytes,
            head_timeout_s=policy.hub_initialize_ms / 1000,
        )
        self._server = HubServer(
            adapter, service, limits, on_cut=self._on_cut, on_full=self._on_full, cork=cork
        )
        self._loop = asyncio.get_event_loop()
        self._paths = list(paths)
        self._unserved = list(paths)
        # Why, for those that somebody else serves, say.
        self._refusals: dict[str, str] = {}
        self._is_hurt = False
        self._healing: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        # How many clients were cut off because they did not read.
        self.cut = 0

    @property
    def directories(self) -> list[str]:
        """Where the Unix sockets are."""
        return [os.path.dirname(path) for path in self._paths]

    @property
    def unserved(self) -> list[dict[str, str]]:
        """Every path that is not served, and why."""
        return [{"path": path, "reason": why} for path, why in self._refusals.items()]

    @property
    def tcp(self) -> dict[str, Any] | None:
        """Where the TCP listener is; None where there is none."""
        return None if self._network is None else self._network.status()

    async def start(self) -> None:
        """Let clients in."""
        await self._heal()
        opening = self._open_network()
        if opening is not None:
            # A name may take long to be looked up.
            await asyncio.wait({opening}, timeout=_OPEN_S)

    async def stop(self) -> None:
        """Send the clients away."""
        for task in filter(None, (self._healing, self._opening)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._server.close()

    @property
    def has_network(self) -> bool:
        """Whether there is a TCP listener, or is to be: then :meth:`tick` is to be called."""
        return self._network is not None

    @property
    def is_complete(self) -> bool:
        """Whether all is served that should be."""
        is_served = not self._unserved and not self._is_hurt
        return is_served and (self._network is None or self._network.is_open)

    def tick(self) -> None:
        """Time passes for the TCP listener; call it some times a second."""
        if self._network is not None:
            self._network.tick()

    def look(self) -> None:
        """Serve what is not served, or not any more; call it every second until all is."""
        if self._healing is None or self._healing.done():
            self._healing = self._loop.create_task(self._heal_again())
            self._open_network()

    async def _heal_again(self) -> None:
        try:
            await self._heal()
        except Exception:
            logger.exception("the sockets of the hub could not be looked after")

    async def _heal(self) -> None:
        self._is_hurt = True
        try:
            await self._server.heal()
            self._is_hurt = False
        except OSError as error:
            logger.warning("%s", error)
        for path in list(self._unserved):
            try:
                await self._server.listen(path)
                self._unserved.remove(path)
                self._refusals.pop(path, None)
            except OSError as error:
                self._complain(path, f"The socket {path} cannot be served", error)

    def _open_network(self) -> asyncio.Task[None] | None:
        """Have the TCP listener opened, where there is one that is not open yet."""
        network = self._network
        if network is None or network.is_open:
            return None
        if self._opening is None or self._opening.done():
            self._opening = self._loop.create_task(self._open(network))
        return self._opening

    async def _open(self, network: Network) -> None:
        try:
            await network.open(self._server)
            self._refusals.pop(network.name, None)
        except OSError as error:
            self._complain(network.name, "The hub cannot listen on TCP", error)
        except Exception:
            logger.exception("the hub cannot listen on TCP")

    def _complain(self, path: str, what: str, error: OSError) -> None:
        """Once for each trouble: the path is tried again every second."""
        is_new = path not in self._refusals
        why = explain(error)
        self._refusals[path] = why
        if is_new:
            self._record("error", "hub.socket.failed", f"{what}: {why}", {"path": path})

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
