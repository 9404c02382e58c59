"""What a connection to the child can do, however it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

OnMessage = Callable[[bytes], None]
OnLost = Callable[[str], None]

# What is kept for a child that does not read; a hung one is found out long before.
UNREAD_LIMIT: Final = 256 << 20


class Transport(Protocol):
    """One connection to the child, carrying JSON messages in order.

    All of it belongs to the running loop; nothing of it blocks.
    """

    def bind(self, on_message: OnMessage, on_lost: OnLost) -> None:
        """Say who hears each message, and who hears (once) that the child broke it off."""

    async def connect(self) -> None:
        """Make the connection; may be called again after it failed.

        Raises:
            OSError: nobody is there yet.
            codexd.link.errors.LinkRefused: who is there does not speak WebSocket with us.
        """

    def send(self, data: bytes) -> None:
        """Send one JSON message.

        Raises:
            codexd.link.errors.LinkLost: there is no connection.
            codexd.link.errors.MessageTooLong: longer than the child takes on this transport.
            codexd.link.errors.NotReading: more than ``UNREAD_LIMIT`` bytes are unread.
        """

    def unread(self) -> list[bytes]:
        """Messages that a child which has just died has certainly not read, in order."""

    def close(self) -> None:
        """Let go; ``on_lost`` is not called."""


def ignore_message(_data: bytes) -> None:
    """An ``on_message`` for a transport that nobody listens to yet."""


def ignore_loss(_reason: str) -> None:
    """An ``on_lost`` for a transport that nobody listens to yet."""
