"""A client on stdin and stdout, a JSON message a line."""

from __future__ import annotations

import os
import select

from codexd.client.bridge import ClientGone
from codexd.client.hub_wire import READ_BYTES, Outgoing
from codexd.wire.lines import LineSplitter, as_line


class StdioEnd:
    """A :class:`codexd.client.bridge.ClientEnd`."""

    hears_on = True

    def __init__(self, stdin_fd: int, stdout_fd: int) -> None:
        self.reader = stdin_fd
        self.writer = stdout_fd
        self.unsent = Outgoing()
        self.is_open = True
        self._come: list[bytes] = []
        self._lines = LineSplitter(self._come.append)

    @property
    def ignored(self) -> int:
        """How many lines were no JSON objects."""
        return self._lines.noise

    def early(self) -> list[bytes]:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        return []

    def read(self) -> list[bytes]:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        data = os.read(self.reader, READ_BYTES)
        if data:
            self._lines.feed(data)
        else:
            self._lines.finish()
            self.is_open = False
        messages = self._come[:]
        self._come.clear()
        return messages

    def write(self) -> None:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        try:
            # As much as never blocks where select(2) says that it can be written.
            self.unsent.sent(os.write(self.writer, self.unsent.first[: select.PIPE_BUF]))
        except BrokenPipeError as error:
            raise ClientGone from error

    def send(self, message: bytes) -> None:
        """See :class:`codexd.client.bridge.ClientEnd`."""
        self.unsent.extend([as_line(message)])
