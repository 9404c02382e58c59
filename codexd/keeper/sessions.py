"""The sessions for whoever speaks HTTP: those of threads are the hub's, the others the records'."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from codexd.contracts import SessionPurpose, SessionRecord
from codexd.hub.threads import ThreadView
from codexd.keeper.hub_driver import HubDriver
from codexd.records.records import Records
from codexd.session_id import new_session_id


class Sessions:
    """A :class:`codexd.api.sessions.Sessions`."""

    def __init__(self, records: Records, driver: HubDriver) -> None:
        self._records = records
        self._driver = driver

    def all(self) -> Iterable[SessionRecord]:
        """Every record of the registry."""
        return list(self._records.state.sessions.values())

    def view(self, thread_id: str) -> ThreadView | None:
        """How its thread is shown."""
        return self._driver.view(thread_id)

    async def register(
        self, purpose: SessionPurpose, metadata: Mapping[str, str], thread_id: str | None
    ) -> SessionRecord:
        """Make a session, or give the thread's own a purpose and metadata; it is written down.

        Raises:
            OSError: the disk does not take it. It is there all the same, and written in time.
        """
        if thread_id is not None:
            record = self._driver.register(thread_id, purpose, metadata)
        else:
            session_id = new_session_id()
            self._records.open_session(session_id, purpose, dict(metadata))
            record = self._records.state.sessions[session_id]
        # What was promised shall outlive this process.
        await asyncio.to_thread(self._records.flusher.must_be_written)
        return record

    def close(self, session_id: str) -> SessionRecord | None:
        """Close a session; None where there is no such one."""
        record = self._records.state.sessions.get(session_id)
        if record is None or record.status == "closed":
            return record
        if record.thread_id is not None:
            self._driver.close_session(record.thread_id)
        if self._records.state.sessions[session_id].status == "active":
            self._records.close_session(session_id)
        return self._records.state.sessions[session_id]
