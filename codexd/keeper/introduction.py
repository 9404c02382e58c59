"""As whom codexd introduces itself to the server: by default as its first client.

The first `initialize` that a server process gets decides what it calls itself towards the model's
API (codex 0.163: `originator` and User-Agent). So a server that nobody has used yet is asked who
it is speaking with only when the first client comes, and the name is remembered.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

import msgspec

from codexd import __version__
from codexd.api import local_client
from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub.introduction import Capabilities, ClientInfo
from codexd.platform.files import read_whole
from codexd.store.files import pretty, write_atomic

OWN = ClientInfo("codexd", __version__, "codexd")
# The name that codex keeps for whoever looks after a server: it decides nothing (0.163 and 0.169).
CARETAKER = ClientInfo("codex_app_server_daemon", __version__, "codexd")
FILE = "introduction.json"


class _Remembered(msgspec.Struct, rename="camel"):
    """introduction.json."""

    client_info: ClientInfo
    capabilities: Capabilities = Capabilities()


class Introduction:
    """Who codexd says it is. ``originator`` is the configured name; None for the first client's."""

    def __init__(self, state_dir: str, originator: str | None) -> None:
        self._path = os.path.join(state_dir, FILE)
        self._originator = originator
        self._remembered = self._load()

    def _load(self) -> _Remembered | None:
        with contextlib.suppress(OSError, *UNDECODABLE):
            return decode_json(read_whole(self._path), _Remembered)
        return None

    @property
    def is_known(self) -> bool:
        """Whether there is a name already, whoever comes."""
        return self._remembered is not None or self._originator is not None

    def came(self, info: ClientInfo, capabilities: Capabilities) -> bytes | None:
        """A client has introduced itself; returns what is to be remembered, if that is new."""
        if info.name in (OWN.name, local_client.NAME):
            # Somebody looks, over HTTP or with a command of codexd's own: that is no client's name.
            return None
        known = self._remembered or _Remembered(info)
        found = _Remembered(known.client_info, known.capabilities.merged(capabilities.kept()))
        if self._remembered is not None and _same(found, self._remembered):
            return None
        self._remembered = found
        return pretty(found)

    def save(self, data: bytes) -> None:
        """Write down what :meth:`came` returned. It may wait for the disk."""
        # Without it the next server only has the name of the next daemon's first client.
        with contextlib.suppress(OSError):
            write_atomic(self._path, data)

    def params(self, present: Iterable[Capabilities]) -> dict[str, Any]:
        """The params of `initialize`, with what the clients ``present`` can do together."""
        known = self._remembered
        info = OWN if known is None else known.client_info
        if self._originator is not None:
            info = ClientInfo(self._originator, __version__)
        able = Capabilities() if known is None else known.capabilities
        for capabilities in present:
            able = capabilities.merged(able)
        return {"clientInfo": info, "capabilities": able.announced()}


def caretaker_params() -> dict[str, Any]:
    """The params of an `initialize` after which the server can still be given a name."""
    return {"clientInfo": CARETAKER, "capabilities": Capabilities().announced()}


def own_params() -> dict[str, Any]:
    """The params of `initialize` that every server takes."""
    return {"clientInfo": OWN, "capabilities": Capabilities().announced()}


def _same(one: _Remembered, other: _Remembered) -> bool:
    return msgspec.json.encode(one) == msgspec.json.encode(other)
