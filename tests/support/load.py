"""What a daemon is busy with while its processes are killed.

A load is a context manager that is given the box before its daemon starts. Its value is called
before the daemon ends; it stops the load and checks that what was begun came to an end.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from websockets.exceptions import WebSocketException

from tests.support.client import AppClient
from tests.support.daemon import DaemonBox
from tests.support.model import ModelServer, Reply
from tests.support.waiting import eventually

Load = Callable[[DaemonBox], AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def no_load(box: DaemonBox) -> Iterator[Callable[[], None]]:
    """Nothing."""
    del box
    yield lambda: None


@contextlib.contextmanager
def stream_of_events(box: DaemonBox) -> Iterator[Callable[[], None]]:
    """A client that asks one thing after the other, each of which is an event."""
    worker = _Worker(box, _ask)
    with worker.running():
        yield worker.finish


@contextlib.contextmanager
def stream_of_turns(box: DaemonBox) -> Iterator[Callable[[], None]]:
    """A client that has one turn after the other on one thread."""
    with contextlib.closing(ModelServer(lambda: Reply(["la"] * 10, delay_s=0.02))) as model:
        model.write_config(box.codex_home)
        # Codex runs a login shell, in a session of its own, to see what is in it: with this it is
        # nothing that would take long.
        box.env["HOME"] = str(box.codex_home)
        worker = _Worker(box, _Turns())
        with worker.running():
            yield worker.finish


class _Worker:
    """A thread with a client that connects again whenever it has lost the hub."""

    def __init__(self, box: DaemonBox, work: Callable[[AppClient], None]) -> None:
        self._path = box.config.runtime.hub_socket_path
        self._work = work
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done = 0
        self.error: BaseException | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """For as long as the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._ending.set()
            self._thread.join(30)

    def finish(self) -> None:
        """Stop, once it has worked after the last fault."""
        before = self.done
        eventually(
            lambda: self.error is not None or self.done > before + 1, what="work after the faults"
        )
        self._ending.set()
        self._thread.join(30)
        assert self.error is None, self.error
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    self._work_on_one_connection()
                except TimeoutError:
                    # Connected, and nobody answers.
                    raise
                except (OSError, EOFError, WebSocketException, _Away):
                    continue
        except BaseException as error:
            self.error = error

    def _work_on_one_connection(self) -> None:
        client = _connect(self._path)
        try:
            while not self._ending.is_set():
                self._work(client)
                self.done += 1
        finally:
            client.close()


class _Away(Exception):
    """Nobody serves the socket just now."""


def _connect(path: str) -> AppClient:
    try:
        return AppClient(path)
    except AssertionError as error:
        raise _Away from error


def _ask(client: AppClient) -> None:
    client.answer_to(client.ask("thread/loaded/list"))


class _Turns:
    """Each turn that the server took ends with one ``turn/completed``, whatever happens."""

    def __init__(self) -> None:
        self._thread: str | None = None
        self._resumed_by: AppClient | None = None

    def __call__(self, client: AppClient) -> None:
        """One turn, from its start to its end."""
        self._join(client)
        if self._thread is None:
            return
        turn = [{"type": "text", "text": "sing"}]
        answer = client.answer_to(
            client.ask("turn/start", {"threadId": self._thread, "input": turn})
        )
        if "result" not in answer:
            return
        turn_id = answer["result"]["turn"]["id"]
        client.wait_for(lambda message: _is_end(message, turn_id))

    def _join(self, client: AppClient) -> None:
        if self._resumed_by is client:
            return
        request = (
            client.ask("thread/start", {"cwd": "/"})
            if self._thread is None
            else client.ask("thread/resume", {"threadId": self._thread})
        )
        answer = client.answer_to(request)
        if "result" in answer:
            self._thread = answer["result"]["thread"]["id"]
            self._resumed_by = client
        elif "no rollout" in str(answer["error"]):
            self._thread = None


def _is_end(message: dict[str, Any], turn_id: str) -> bool:
    params = message.get("params", {})
    return message.get("method") == "turn/completed" and params["turn"]["id"] == turn_id
