"""A code that lets a browser in to a daemon's page."""

from __future__ import annotations

from typing import Final

from codexd.client import calls
from codexd.client.errors import DaemonError, Refused
from codexd.client.sync import Client
from codexd.shapes import PageCode

_TIMEOUT_S: Final = 10.0
_NOT_FOUND: Final = 404


def make_page_code(socket_path: str) -> PageCode:
    """A code for the page of the daemon whose codexd.sock is at ``socket_path``.

    Raises:
        DaemonError: it gives none; the text says why.
    """
    client = Client(socket_path=socket_path, timeout_s=_TIMEOUT_S)
    try:
        return client._call(calls.page_code())
    except Refused as error:
        if error.status != _NOT_FOUND:
            raise
        text = "The daemon has no page, it is of an older version: stop it, and start this one."
        raise DaemonError(text) from error
