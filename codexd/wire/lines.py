"""Messages as lines, the way codex speaks on stdin and stdout."""

from __future__ import annotations

from collections.abc import Callable

# A peer that writes for ever without a line end must not fill the memory.
_LINE_LIMIT = 128 << 20


class LineSplitter:
    """Cuts a stream of bytes into JSON lines; the cost is linear in the bytes.

    ``noise`` counts the lines that are no JSON object: what a child prints beside the protocol,
    or the rest of a line whose beginning an earlier plugin had read. Empty lines do not count.
    """

    def __init__(self, on_line: Callable[[bytes], None], *, limit: int = _LINE_LIMIT) -> None:
        self._on_line = on_line
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.noise = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes; calls ``on_line`` for each whole line, without its end."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if self._size:
                self._keep(data[start:end])
                self.finish()
            else:
                self._take(data[start:end])
            start = end + 1
        if start < len(data):
            self._keep(data[start:] if start else data)

    def finish(self) -> None:
        """Take what there is for a whole line: a line end was read, or the stream has ended."""
        parts = self._parts
        line = parts[0] if len(parts) == 1 else b"".join(parts)
        is_too_long = self._size > self._limit
        parts.clear()
        self._size = 0
        if is_too_long:
            self.noise += 1
        else:
            self._take(line)

    def _take(self, line: bytes) -> None:
        line = line.strip()
        if line[:1] == b"{" and line[-1:] == b"}" and len(line) <= self._limit:
            self._on_line(line if line.isascii() else as_utf8(line))
        elif line:
            self.noise += 1

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._parts.clear()
        else:
            self._parts.append(piece)


def as_utf8(text: bytes) -> bytes:
    """The text itself, or what can be read of it: JSON is UTF-8, and so are text frames."""
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode()
    return text


def as_line(message: bytes) -> bytes:
    """A JSON text as one line; inside JSON a line end is only ever white space."""
    return message.replace(b"\n", b" ") + b"\n"
