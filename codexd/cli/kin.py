"""Which threads work for which: an agent may have others of its own, each with a thread."""

from __future__ import annotations

from codexd.client.errors import DaemonError
from codexd.client.sync import Client

# An agent's agents have agents; a circle has no end.
_MOST = 16


class Kin:
    """Tells whether a thread is one, or works for it, as the server says."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._parents: dict[str, str | None] = {}

    def works_for(self, thread_id: str | None, ancestor: str) -> bool:
        """Whether ``thread_id`` is ``ancestor``, or was begun by it or by one that works for it."""
        for _ in range(_MOST):
            if thread_id is None or thread_id == ancestor:
                break
            thread_id = self._parent(thread_id)
        return thread_id == ancestor

    def _parent(self, thread_id: str) -> str | None:
        if thread_id not in self._parents:
            try:
                parent = self._client.threads.get(thread_id).get("parentThreadId")
            except DaemonError:
                # Asked again the next time.
                return None
            self._parents[thread_id] = parent if isinstance(parent, str) else None
        return self._parents[thread_id]
