"""The clients of a kill matrix: each knows of every turn on its threads how often it ended.

A client connects again whenever it has lost the hub, resumes its thread and reads there how the
turns stand whose end it cannot have heard. Told to rest, it brings its turns to their end, asks one
small thing, and then only listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from websockets.exceptions import WebSocketException
from websockets.sync.client import unix_connect

# Nobody waits longer than this for an answer while connected. It is more than a drain and a
# restart take together.
PATIENCE_S = 40.0
# A thread with a long history makes each request to the model long.
_TURNS_ON_A_THREAD = 15
# What codex (0.163) says of a thread that is lost for good: nothing of it was written down yet, or
# its file was made and the server killed before the first byte was in it.
_LOST = ("no rollout found", "is empty")
_INPUT = [{"type": "text", "text": "sing"}]


class Gone(Exception):
    """The connection to the hub is lost, or there is none."""


class Line(Protocol):
    """A connection to the hub that carries one JSON message after the other."""

    def send(self, message: dict[str, Any]) -> None: ...

    def receive(self, timeout_s: float) -> dict[str, Any] | None: ...

    def close(self) -> None: ...


class SocketLine:
    """A WebSocket on codexd.sock."""

    def __init__(self, path: str) -> None:
        try:
            self._socket = unix_connect(
                path, uri="ws://localhost/", max_size=None, max_queue=None, compression=None
            ).__enter__()
        except (OSError, EOFError, WebSocketException) as error:
            raise Gone from error

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        try:
            self._socket.send(json.dumps(message))
        except (OSError, EOFError, WebSocketException) as error:
            raise Gone from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message; None where none came in time."""
        try:
            message: dict[str, Any] = json.loads(self._socket.recv(timeout_s))
        except TimeoutError:
            return None
        except (OSError, EOFError, WebSocketException) as error:
            raise Gone from error
        return message

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError, EOFError, WebSocketException):
            self._socket.close()


class AttachLine:
    """`codexd attach` as a subprocess: a JSON message a line on its stdin and stdout."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: str) -> None:
        self._process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._read = b""

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()
        except OSError as error:
            raise Gone from error

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message; None where none came in time."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._read:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(self._stdout, 1 << 16)
            if not data:
                raise Gone
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        """End of input; it ends by itself, or is ended."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(slots=True)
class Turn:
    """One turn of a client. ``ends`` are the statuses of each `turn/completed` that it got.

    ``read`` is what the thread said of it after the connection had been lost; ``left``: the client
    went away on purpose while it ran.
    """

    client: str
    thread_id: str
    turn_id: str
    ends: list[str] = field(default_factory=list)
    read: str | None = None
    left: bool = False

    @property
    def is_open(self) -> bool:
        """Whether its client has still to hear how it ended."""
        return not self.ends and self.read is None and not self.left

    @property
    def is_cut(self) -> bool:
        """Whether it was interrupted; no client of the matrix does that itself."""
        return "interrupted" in (*self.ends, self.read)


class Book:
    """Every turn of one client."""

    def __init__(self, client: str) -> None:
        self._client = client
        self.turns: dict[str, Turn] = {}

    def begun(self, thread_id: str, turn_id: str) -> Turn:
        """The turn, which was begun."""
        return self.turns.setdefault(turn_id, Turn(self._client, thread_id, turn_id))

    def heard(self, message: dict[str, Any]) -> None:
        """Note what a notification says of a turn."""
        params = message.get("params", {})
        if message.get("method") == "turn/started":
            self.begun(params["threadId"], params["turn"]["id"])
        elif message.get("method") == "turn/completed":
            turn = self.begun(params["threadId"], params["turn"]["id"])
            turn.ends.append(params["turn"]["status"])

    def read(self, thread_id: str, turns: list[dict[str, Any]] | None) -> None:
        """A thread was resumed, and these are its turns; None: the server does not know it."""
        status = {turn["id"]: turn["status"] for turn in turns or ()}
        for turn in self.open_turns():
            if turn.thread_id == thread_id:
                found = status.get(turn.turn_id, "unknown")
                turn.read = None if found == "inProgress" else found

    def open_turns(self) -> list[Turn]:
        """Those whose end was not heard yet."""
        return [turn for turn in list(self.turns.values()) if turn.is_open]


class Talk:
    """One initialized connection."""

    def __init__(self, line: Line, book: Book, name: str) -> None:
        self._line = line
        self._book = book
        self._count = 0
        self.closed_threads: set[str] = set()
        info = {"name": name, "title": None, "version": "1"}
        answer = self.ask("initialize", {"clientInfo": info, "capabilities": None})
        if "result" not in answer:
            raise Gone
        line.send({"method": "initialized"})

    def listen(self, seconds: float) -> None:
        """Take what comes, for at most so long."""
        message = self._line.receive(seconds)
        if message is not None:
            self._take(message)

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request's answer.

        Raises:
            TimeoutError: there was none, though the connection lives.
        """
        self._count += 1
        self._line.send({"id": self._count, "method": method, "params": params or {}})
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = self._line.receive(deadline - time.monotonic())
            if message is None:
                break
            if message.get("id") == self._count and "method" not in message:
                return message
            self._take(message)
        raise TimeoutError(f"{method} was not answered within {PATIENCE_S:g} s")

    def _take(self, message: dict[str, Any]) -> None:
        self._book.heard(message)
        if message.get("method") == "thread/closed":
            self.closed_threads.add(message["params"]["threadId"])


class Client(threading.Thread):
    """A thread that lives as one client does; see the module."""

    works = True

    def __init__(self, name: str, connect: Callable[[], Line]) -> None:
        super().__init__(name=name, daemon=True)
        self.book = Book(name)
        self._connect = connect
        self._ending = threading.Event()
        self._is_to_rest = False
        self._order = 0
        self._rested = 0
        self._thread_id: str | None = None
        self._turns = 0
        self.doing = "nothing yet"
        self.waited_s = 0.0
        self.failure: str | None = None

    # -- for whoever runs the matrix -----------------------------------------------------------

    def rest(self) -> None:
        """From now on bring things to an end, and then be still."""
        self._order += 1
        self._is_to_rest = True

    def work(self) -> None:
        """Go on."""
        self._is_to_rest = False

    def end(self) -> None:
        """Leave for good."""
        self._ending.set()

    @property
    def is_resting(self) -> bool:
        """Whether it has had an answer since it was told to rest, and has no open turn."""
        return self._is_to_rest and self._rested == self._order

    # -- its life ------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the end, on one connection after the other."""
        while not self._ending.is_set():
            try:
                self._live()
            except Gone:
                self._rested, self.doing = 0, "connecting"
                time.sleep(0.02)
            except Exception as error:
                self.failure = f"{type(error).__name__}: {error}"
                return

    def _live(self) -> None:
        with contextlib.closing(self._connect()) as line:
            talk = Talk(line, self.book, self.name)
            self._join(talk)
            while not self._ending.is_set():
                if not self._is_to_rest:
                    self._work(talk)
                elif self.book.open_turns():
                    self.doing = f"waiting for the end of {self.book.open_turns()[0].turn_id}"
                    talk.listen(0.1)
                else:
                    self._be_still(talk)

    def _be_still(self, talk: Talk) -> None:
        order, self.doing = self._order, "asking one small thing"
        begun = time.monotonic()
        talk.ask("thread/loaded/list")
        self.waited_s = time.monotonic() - begun
        self._rested, self.doing = order, "resting"
        while self._is_to_rest and self._order == order and not self._ending.is_set():
            talk.listen(0.1)

    def _work(self, talk: Talk) -> None:
        """One turn, from its start to its end."""
        if self._thread_id is None or self._thread_id in talk.closed_threads:
            self._new_thread(talk)
        elif self._turns >= _TURNS_ON_A_THREAD:
            # Also if the answer is lost: it may be archived.
            old, self._thread_id = self._thread_id, None
            talk.ask("thread/archive", {"threadId": old})
        else:
            turn = self._start_turn(talk)
            self.doing = "having a turn"
            while turn is not None and turn.is_open and not self._ending.is_set():
                talk.listen(0.1)

    def _start_turn(self, talk: Talk) -> Turn | None:
        self.doing = "starting a turn"
        params = {"threadId": self._thread_id, "input": _INPUT}
        answer = talk.ask("turn/start", params)
        if "result" in answer:
            self._turns += 1
            assert self._thread_id is not None
            return self.book.begun(self._thread_id, answer["result"]["turn"]["id"])
        if "not found" in answer["error"]["message"]:
            self._thread_id = None
        return None

    def _new_thread(self, talk: Talk) -> None:
        self.doing, self._turns = "starting a thread", 0
        answer = talk.ask("thread/start", {"cwd": "/"})
        self._thread_id = answer["result"]["thread"]["id"] if "result" in answer else None

    def _join(self, talk: Talk) -> None:
        """Resume the thread of an earlier connection, and those on which turns are open."""
        threads = {turn.thread_id for turn in self.book.open_turns()} | {self._thread_id}
        for thread_id in threads - {None}:
            assert thread_id is not None
            self._resume(talk, thread_id)

    def _resume(self, talk: Talk, thread_id: str) -> None:
        refusal = ""
        while True:
            self.doing = f"resuming {thread_id}{refusal}"
            answer = talk.ask("thread/resume", {"threadId": thread_id})
            if "result" in answer:
                self.book.read(thread_id, answer["result"]["thread"]["turns"])
                return
            if any(words in answer["error"]["message"] for words in _LOST):
                self.book.read(thread_id, None)
                self._thread_id = None if self._thread_id == thread_id else self._thread_id
                return
            # The server was restarted under the request, say.
            refusal = f" again, after {answer['error']['message']}"
            talk.listen(0.05)


class IdleClient(Client):
    """Is there, and says nothing until it is told to rest."""

    def _work(self, talk: Talk) -> None:
        self.doing = "nothing"
        talk.listen(0.1)


class PassingClient(Client):
    """Comes, begins a turn and leaves in the middle of it."""

    def __init__(self, name: str, connect: Callable[[], Line], dice: Random) -> None:
        super().__init__(name, connect)
        self._dice = dice

    def _work(self, talk: Talk) -> None:
        if self._thread_id is None or self._thread_id in talk.closed_threads:
            self._new_thread(talk)
            return
        self._start_turn(talk)
        until = time.monotonic() + self._dice.uniform(0, 0.8)
        while (left_s := until - time.monotonic()) > 0:
            talk.listen(left_s)
        for turn in self.book.open_turns():
            turn.left = True
        raise Gone
