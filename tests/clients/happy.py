"""happy, of npm: codex from a phone."""

from __future__ import annotations

from tests.clients.client import Client
from tests.clients.place import CannotInstall, Place
from tests.clients.play import Actor
from tests.clients.stage import Stage


class Happy(Client):
    """It logs in at a server of its own before it starts codex."""

    name = "happy"
    version = "1.2.5"
    attached = "`codexd-codex` as `codex` on PATH"

    def install(self, place: Place) -> None:
        """See :class:`.client.Client`."""
        del place
        raise CannotInstall("`happy codex` wants a login at its own server before anything else")

    def actor(self, stage: Stage) -> Actor:
        """See :class:`.client.Client`."""
        raise NotImplementedError(stage)
