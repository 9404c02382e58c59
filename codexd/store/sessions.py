"""The session registry in memory, kept so that one change costs the same however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from codexd.clock import iso
from codexd.contracts import SessionRecord, SessionRegistry
from codexd.encoding import encode_json

_INDENT: Final = b"\n    "
# A century: more than this and the calendar ends.
_FOR_EVER_MS: Final = 100 * 365 * 86_400_000


class Sessions:
    """Every session by its id, each with its piece of session-registry.json ready.

    Closed sessions leave, the one closed first going first, once there are more than
    ``keep_count`` of them or they have been closed for ``keep_ms`` milliseconds.
    """

    def __init__(self, registry: SessionRegistry, *, keep_count: int, keep_ms: int) -> None:
        self.by_id: dict[str, SessionRecord] = {}
        self.updated_at = registry.updated_at
        self._keep_count = keep_count
        self._keep = timedelta(milliseconds=min(keep_ms, _FOR_EVER_MS))
        self._pieces: dict[str, bytes] = {}
        self._closed: dict[str, str] = {}
        for record in registry.sessions:
            self._set(record)
        oldest_first = sorted(self._closed.items(), key=lambda item: item[1])
        self._closed = dict(oldest_first)

    def put(self, record: SessionRecord, now: str) -> None:
        """Add ``record``, or put it in the place of the one with its id."""
        self._set(record)
        self.updated_at = now
        self.prune(now)

    def close(self, session_id: str, now: str) -> None:
        """Close a session; nothing happens if it is not there or closed already."""
        record = self.by_id.get(session_id)
        if record is not None and record.status == "active":
            self.put(msgspec.structs.replace(record, status="closed", updated_at=now), now)

    def prune(self, now: str) -> bool:
        """Let go of the closed sessions that are due; whether there were any."""
        due = list(self._due(iso(_moment(now) - self._keep)))
        for session_id in due:
            del self._closed[session_id], self.by_id[session_id], self._pieces[session_id]
        return bool(due)

    def encode(self) -> bytes:
        """session-registry.json."""
        head = encode_json(self.updated_at)
        body = _INDENT[1:] + (b"," + _INDENT).join(self._pieces.values()) + b"\n  "
        listed = b"[\n" + body + b"]" if self._pieces else b"[]"
        return b'{\n  "updatedAt": ' + head + b',\n  "sessions": ' + listed + b"\n}\n"

    def _set(self, record: SessionRecord) -> None:
        piece = msgspec.json.format(encode_json(record), indent=2)
        self.by_id[record.session_id] = record
        self._pieces[record.session_id] = piece.replace(b"\n", _INDENT)
        self._closed.pop(record.session_id, None)
        if record.status == "closed":
            self._closed[record.session_id] = record.updated_at

    def _due(self, before: str) -> Iterator[str]:
        surplus = len(self._closed) - self._keep_count
        for count, (session_id, closed_at) in enumerate(self._closed.items()):
            # Times of one form compare as texts do.
            if count >= surplus and closed_at > before:
                return
            yield session_id


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC)
