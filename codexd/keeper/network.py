"""The TCP listener: its address, door, tokens and TLS, put together and looked after."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from codexd.address import Address, parse_address
from codexd.api.door import Door, Service
from codexd.api.hosts import Hosts
from codexd.api.page_access import PageAccess
from codexd.api.server import HubServer
from codexd.api.tcp import (
    Place,
    bind,
    prepare_tokens,
    resolve,
    token_files,
)
from codexd.api.tokens import Tokens
from codexd.config import Paths
from codexd.listener_settings import check_settings
from codexd.settings import Policy

if TYPE_CHECKING:
    from codexd.tls import Tls

_PORT_FILE: Final = "hub-port.json"
_TELL_WRONG_S: Final = 60.0
_REFRESH_S: Final = 10.0


def _aside(work: Callable[[], Sequence[Place]]) -> asyncio.Future[Sequence[Place]]:
    """What ``work`` gives, done in a thread that nobody waits for at the end of the process.

    A name may take half a minute to be looked up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Sequence[Place]] = loop.create_future()

    def take(places: Sequence[Place], error: OSError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(places)
        else:
            future.set_exception(error)

    def run() -> None:
        places: Sequence[Place] = []
        trouble: OSError | None = None
        try:
            places = work()
        except OSError as error:
            trouble = error
        # The loop may be closed by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(take, places, trouble)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    return future


class Network:
    """``service`` answers those who are in, ``page`` knows browsers, ``event`` records."""

    def __init__(
        self,
        policy: Policy,
        paths: Paths,
        runtime_dir: str,
        service: Service,
        page: PageAccess,
        event: Callable[[Any, str, str, dict[str, Any]], None],
    ) -> None:
        self._policy = policy
        self._service = service
        self._page = page
        self._record = event
        self._loop = asyncio.get_event_loop()
        self._listen = parse_address(policy.hub_listen)
        self._files = token_files(policy, paths, os.environ)
        self._port_path = os.path.join(runtime_dir, _PORT_FILE)
        self._tokens: Tokens | None = None
        self._door: Door | None = None
        self._tls: Tls | None = None
        self._address: Address | None = None
        self._wrong = 0
        self._last_wrong = ""
        self._told_wrong_at = -math.inf
        self._refresh_at = 0.0

    @property
    def name(self) -> str:
        """What it is called where it cannot be served."""
        return str(self._listen)

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._door is not None

    async def open(self, server: HubServer) -> None:
        """Listen.

        Raises:
            OSError: that is not possible now.
        """
        await asyncio.to_thread(self._prepare)
        listen = self._listen
        is_name = listen.ip is None
        places = await _aside(lambda: resolve(listen)) if is_name else resolve(listen)
        bound = bind(listen, places, self._port_path)
        try:
            self._serve(server, bound)
        except BaseException:
            bound.close()
            raise

    def _prepare(self) -> None:
        """Under `codexd start` that was seen to; here it is for all that has happened since."""
        check_settings(self._policy)
        prepare_tokens(self._files)

    def _serve(self, server: HubServer, bound: socket.socket) -> None:
        host, port = bound.getsockname()[:2]
        if self._policy.hub_tls_cert:
            from codexd.tls import Tls

            self._tls = Tls(self._policy.hub_tls_cert, self._policy.hub_tls_key)
        tls = self._tls
        self._tokens = Tokens(
            self._files.all, self._files.read, on_fault=self._on_fault, on_change=self._on_change
        )
        hosts = Hosts(
            self._listen,
            host,
            is_tls=tls is not None,
            certified=lambda: () if tls is None else tls.names,
        )
        door = Door(self._service, self._tokens, hosts, self._page, self._on_wrong)
        server.open_door(door, bound, None if tls is None else lambda: tls.context)
        self._door = door
        self._address = Address(self._listen.host, port)
        self._page.serve(lambda: self._page_url, lambda: self._token_digest(door))
        self._record("info", "hub.listening", f"The hub listens on {self._url}.", self._place())

    def tick(self) -> None:
        """Time passes; call it some times a second."""
        if self._door is None:
            return
        self._door.look()
        now = self._loop.time()
        if self._tls is not None and now >= self._refresh_at:
            self._refresh_at = now + _REFRESH_S
            self._refresh(self._tls)
        if self._wrong and now - self._told_wrong_at >= _TELL_WRONG_S:
            self._tell_wrong(now)

    def status(self) -> dict[str, Any]:
        """Where it is reached, and what keeps people out; no token."""
        if self._door is not None:
            # What is told is true now.
            self._door.look()
        return {
            "listen": self.name,
            **self._place(),
            "tokenFile": self._files.all,
            "readTokenFile": self._files.read,
            "fault": None if self._tokens is None else self._tokens.fault,
        }

    def _place(self) -> dict[str, Any]:
        address = None if self._address is None else str(self._address)
        url = None if self._address is None else self._url
        return {"address": address, "url": url, "tls": bool(self._policy.hub_tls_cert)}

    @property
    def _url(self) -> str:
        assert self._address is not None
        host = socket.gethostname() if self._address.is_any else self._address.host
        scheme = "wss" if self._policy.hub_tls_cert else "ws"
        return f"{scheme}://{Address(host, self._address.port)}"

    def _token_digest(self, door: Door) -> bytes | None:
        """Of the token in force, also where it was changed just now."""
        door.look()
        return None if self._tokens is None else self._tokens.digest

    @property
    def _page_url(self) -> str:
        """The page, for a browser on this machine."""
        assert self._address is not None
        if self._tls is not None:
            # It has to be a name that the certificate has.
            return f"{self._url.replace('wss:', 'https:', 1)}/"
        host = "127.0.0.1" if self._address.is_any else self._address.host
        return f"http://{Address(host, self._address.port)}/"

    def _refresh(self, tls: Tls) -> None:
        from codexd.tls import BadTls

        try:
            tls.refresh()
        except BadTls as error:
            message = f"{error} The old one goes on."
            self._record("error", "hub.tls.failed", message, {"path": self._policy.hub_tls_cert})

    # -- what is told --------------------------------------------------------------------------

    def _on_fault(self, path: str, fault: str) -> None:
        message = f"Nobody new gets in by a token: {fault}"
        self._record("error", "hub.token.failed", message, {"path": path})

    def _on_change(self, path: str) -> None:
        message = "A new token is in force; whoever had the old one is cut off."
        self._record("info", "hub.token.changed", message, {"path": path})

    def _on_wrong(self, address: str) -> None:
        self._wrong += 1
        self._last_wrong = address
        now = self._loop.time()
        if now - self._told_wrong_at >= _TELL_WRONG_S:
            self._tell_wrong(now)

    def _tell_wrong(self, now: float) -> None:
        """At most once a minute, whoever it is."""
        count, self._wrong = self._wrong, 0
        self._told_wrong_at = now
        message = f"Requests with a wrong token: {count}, the last from {self._last_wrong}."
        detail = {"count": count, "address": self._last_wrong}
        self._record("warn", "hub.token.wrong", message, detail)
