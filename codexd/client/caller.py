"""Asking the server something over the hub, one question after the other."""

from __future__ import annotations

import select
import time
from typing import Any

import msgspec

from codexd import __version__
from codexd.client.hub_wire import BridgeError, HubConnector, HubWire
from codexd.encoding import decode_json
from codexd.hub import jsonrpc

_ANSWER_S = 60.0


class Refused(Exception):
    """The server answered with an error. The text is its own."""


class _Error(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    id: Any = None
    method: str | None = None
    result: Any = None
    error: _Error | None = None


class HubCaller:
    """An initialized client of the hub.

    Raises:
        BridgeError: there is no daemon, or it does not answer.
    """

    def __init__(self, connect: HubConnector) -> None:
        wire = connect()
        if wire is None:
            raise BridgeError("The daemon does not serve clients at the moment: try again.")
        self._wire: HubWire = wire
        self._count = 0
        try:
            info = {"name": "codexd", "title": "codexd", "version": __version__}
            capabilities = {"experimentalApi": True}
            self.call("initialize", {"clientInfo": info, "capabilities": capabilities})
        except BaseException:
            wire.close()
            raise
        self._wire.send(jsonrpc.notification("initialized", {}))

    def close(self) -> None:
        """Leave the hub."""
        self._wire.close()

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request.

        Raises:
            Refused: it has an error.
            BridgeError: it has no answer.
        """
        self._count += 1
        self._wire.send(jsonrpc.request(str(self._count), method, params))
        deadline = time.monotonic() + _ANSWER_S
        while (left_s := deadline - time.monotonic()) > 0 and self._wire.is_open:
            descriptor = self._wire.socket.fileno()
            writers = [descriptor] if self._wire.unsent.size else []
            readable, writable, _ = select.select([descriptor], writers, [], left_s)
            if writable:
                self._wire.write()
            for message in self._wire.read() if readable else []:
                answer = decode_json(message, _Answer)
                if answer.method is None and answer.id == str(self._count):
                    if answer.error is not None:
                        raise Refused(answer.error.message)
                    return answer.result
        raise BridgeError(f"The daemon did not answer {method}.")
