"""The sign-in at a gateway of the model provider's: it belongs to the client that began it.

`account/gatewayOAuth/login` is answered once it is over, however long that takes. To the server
all clients are one connection; so whose it is, and what that one alone may hear and do, is seen to
here as the server does it for its connections (measured, codex 0.163).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from codexd.hub import jsonrpc
from codexd.hub.clients import Client
from codexd.hub.core import Core
from codexd.hub.jsonrpc import Message
from codexd.hub.requests import Requests

LOGIN: Final = "account/gatewayOAuth/login"
CANCEL: Final = "account/gatewayOAuth/cancel"
CHANGED: Final = "account/gatewayOAuth/changed"


class _Changed(msgspec.Struct, rename="camel", frozen=True):
    provider_id: str = ""
    status: str = ""
    auth_url: str | None = None


class GatewayLogin:
    """Whose sign-in runs, as the requests tell that are on their way, and how it stands."""

    def __init__(self, core: Core, requests: Requests) -> None:
        self._core = core
        self._requests = requests
        # The provider at whose gateway one was told to have begun.
        self._begun_at: str | None = None

    def refusal(self, client: Client, method: str | None) -> str | None:
        """What the server would answer this client; None where it may ask."""
        if method == LOGIN and not client.wants(CHANGED):
            return f"Gateway login requires {CHANGED} notifications"
        if method == CANCEL and self._owner() not in (None, client.number):
            return "Gateway sign-in belongs to another connection"
        return None

    def hearers(self, message: Message) -> Iterable[int]:
        """Who is told how it stands: where to sign in, only who began it."""
        everybody = self._core.everybody(None)
        if message.params(_Changed).auth_url is None:
            return everybody
        return [number for number in everybody if number == self._owner()]

    def told(self, message: Message) -> None:
        """The server tells something: it may be how a sign-in stands."""
        if message.method == CHANGED:
            changed = message.params(_Changed)
            self._begun_at = changed.provider_id if changed.status == "started" else None

    def left(self, client: int) -> None:
        """A client leaves, and with it the sign-in that it began."""
        if self._owner() == client:
            self._requests.own(CANCEL, {})

    def ended(self, why: str) -> None:
        """The server that waited for it is gone; who asked is told by the answer, all by this."""
        provider, self._begun_at = self._begun_at, None
        if provider is None:
            return
        params = {"providerId": provider, "status": "failed", "error": why, "authUrl": None}
        data = jsonrpc.notification(CHANGED, params)
        self._core.tell(self._core.everybody(None), Message(data, {}, CHANGED))

    def _owner(self) -> int | None:
        return self._requests.first_asker(LOGIN)
