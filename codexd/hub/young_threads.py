"""Threads that have not had a turn yet: made such that whoever asks may join them.

codex 0.163 refuses to resume one that it has loaded, again and again: with "no rollout found" as
long as it is in its memory only, and with "list_turns is not supported yet" once it was asked for
its turns, which has it written down. Only when something of it is in its database, too, does it
answer (measured). Setting the branch that the thread has changes nothing else, and nobody is told.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from codexd.hub.jsonrpc import Message
from codexd.hub.process_state import whole_error_text
from codexd.hub.requests import Pending, Requests, text_id

# What it says then, also to whoever would read the turns of one.
NO_TURN_YET = "list_turns is not supported yet"


class _GitInfo(msgspec.Struct, frozen=True):
    branch: str | None = None


class _Thread(msgspec.Struct, rename="camel", frozen=True):
    git_info: _GitInfo | None = None


class _Read(msgspec.Struct, frozen=True):
    thread: _Thread = _Thread()


class YoungThreads:
    """Has threads without a turn written down, for those who would join them."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    @staticmethod
    def is_refused(answer: Message) -> bool:
        """Whether a resume was refused only because the thread has not had a turn yet."""
        return "result" not in answer.fields and NO_TURN_YET in whole_error_text(answer)

    def write_down(self, thread_id: str, then: Callable[[], None]) -> None:
        """Have it written down; ``then`` it may be resumed, or will be refused once more."""
        # It is refused, and has done what it is asked for all the same.
        params = {"threadId": thread_id, "includeTurns": True}
        on_answer = functools.partial(self._read, thread_id, then)
        self._requests.own("thread/read", params, on_answer)

    def _read(self, thread_id: str, then: Callable[[], None], _answer: Message) -> None:
        on_answer = functools.partial(self._update, thread_id, then)
        self._requests.own("thread/read", {"threadId": thread_id}, on_answer)

    def _update(self, thread_id: str, then: Callable[[], None], answer: Message) -> None:
        info: _GitInfo = answer.result(_Read).thread.git_info or _GitInfo()
        params = {"threadId": thread_id, "gitInfo": {"branch": info.branch}}
        self._requests.own("thread/metadata/update", params, lambda _answer: then())

    def helps(self, entry: Pending, answer: Message) -> bool:
        """Whether a client's resume of such a thread, refused just now, is sent once more."""
        if entry.message.method != "thread/resume" or entry.is_second_try:
            return False
        # Of most answers no more is taken apart than this.
        if not self.is_refused(answer) or (thread_id := entry.thread_id) is None:
            return False
        entry.is_second_try = True
        hub_id = text_id(answer)
        self._requests.not_answered_yet(hub_id, entry)
        self.write_down(thread_id, functools.partial(self._requests.send_again, hub_id))
        return True
