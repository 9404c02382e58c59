"""The routes of the server's output, as it is in the logs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec

from codexd.api.http import Access, Answer, Call
from codexd.api.table import route
from codexd.eventlog.bytes_reader import read_end

_TEXT: Final = "text/plain"
_MAX_LINES: Final = 10_000
_MAX_BYTES: Final = 1 << 20


class LogQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How much of the end of the log."""

    lines: Annotated[int, msgspec.Meta(ge=0, le=_MAX_LINES)] = 100


class LogRoutes:
    """``stdout_path`` and ``stderr_path`` are the logs."""

    def __init__(self, stdout_path: str, stderr_path: str) -> None:
        self._stdout_path = stdout_path
        self._stderr_path = stderr_path
        # Each takes memory and a thread for a moment.
        self._turn = asyncio.Lock()

    @route("GET", "/v1/logs/stdout", Access.READ, query=LogQuery, answer=bytes, media_type=_TEXT)
    async def stdout(self, call: Call[LogQuery, None]) -> Answer:
        """Read the last lines that the server wrote to stdout."""
        return await self._end(self._stdout_path, call.query.lines)

    @route("GET", "/v1/logs/stderr", Access.READ, query=LogQuery, answer=bytes, media_type=_TEXT)
    async def stderr(self, call: Call[LogQuery, None]) -> Answer:
        """Read the last lines that the server wrote to stderr."""
        return await self._end(self._stderr_path, call.query.lines)

    async def _end(self, path: str, lines: int) -> Answer:
        async with self._turn:
            data, is_cut = await asyncio.to_thread(read_end, path, lines, _MAX_BYTES)
        # Whatever a server prints, no browser shall take it for a page.
        headers = {"X-Content-Type-Options": "nosniff"}
        if is_cut:
            headers["Codexd-Truncated"] = "true"
        return Answer(data, headers=headers, media_type=f"{_TEXT}; charset=utf-8")
