"""The view where no screen is: a line whenever something changes."""

from __future__ import annotations

import queue
import sys
from typing import Final

from codexd.cli.events import format_event
from codexd.cli.streams import reader_is_gone, writing_to
from codexd.cli.terminal import one_line
from codexd.cli.top.feed import Feed
from codexd.cli.top.shown import Away, Broken, Fed, Past, Snapshot
from codexd.clock import now_iso
from codexd.config import Config
from codexd.contracts import Event
from codexd.eventlog.types import is_protocol

_LOOK_S: Final = 1.0


class Lines:
    """Turns what comes into lines. ``status`` lines tell how it is, the others are events."""

    def __init__(self) -> None:
        self._last: str | None = None

    def of(self, fed: Fed) -> list[str]:
        """The lines for it; none where nothing has changed."""
        if isinstance(fed, Event):
            return [] if is_protocol(fed) else [format_event(fed)]
        if isinstance(fed, Past):
            return []
        if isinstance(fed, Snapshot):
            return self._changed(_status(fed))
        if isinstance(fed, Away):
            return self._changed(f"daemon=away {one_line(fed.why)}")
        if isinstance(fed, Broken):
            raise fed.error
        return [one_line(getattr(fed, "text", ""))]

    def _changed(self, text: str) -> list[str]:
        if text == self._last:
            return []
        self._last = text
        return [f"status {now_iso()} {text}"]


def _status(snapshot: Snapshot) -> str:
    child, hub = snapshot.status.daemon.child, snapshot.status.hub
    pairs = {
        "daemon": "running",
        "child": child.status,
        "ready": "yes" if child.ready and hub.ready else "no",
        "pid": child.pid if child.pid is not None else "-",
        "clients": hub.clients,
        "turns": hub.running_turns,
        "approvals": hub.waiting_approvals,
        "sessions": len(snapshot.sessions),
    }
    return " ".join(f"{key}={value}" for key, value in pairs.items())


def print_lines(config: Config) -> None:
    """Until nobody reads them, or Ctrl-C."""
    fed: queue.SimpleQueue[Fed] = queue.SimpleQueue()
    Feed(config, fed.put).start()
    lines = Lines()
    with writing_to(sys.stdout.buffer) as out:
        is_gone = reader_is_gone(out)
        while not is_gone():
            try:
                found = lines.of(fed.get(timeout=_LOOK_S))
            except queue.Empty:
                continue
            for line in found:
                out.write(f"{line}\n".encode())
            out.flush()
