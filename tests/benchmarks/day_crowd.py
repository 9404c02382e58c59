"""All who use a daemon in a day, in one process and one loop, so that the plugin sets the pace."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks.day_clients import AT_ONCE, Client, Day, Follower, HttpClient, HttpEnd

_CLIENTS: Final = 6
_HTTP_CLIENTS: Final = 4
OPEN_AT_ONCE: Final = _CLIENTS * AT_ONCE + _HTTP_CLIENTS
# How often it is looked whether a server that was killed is back.
_LOOK_S: Final = 0.02
_STALLED_S: Final = 120.0


class Restarter(HttpEnd):
    """Has the server started anew, spread over the day: by an order, and by SIGKILL, in turns.

    An order forgets the pause that a short life brings. So no kill waits for one, and two of them
    need not be as far apart as a good life is long.
    """

    def __init__(self, path: str, day: Day, selector: selectors.BaseSelector, state: Path) -> None:
        super().__init__(path, day, selector)
        self._state = state
        self._look_at = 0.0
        self.is_ordered = False
        # The one that was killed: until another one answers.
        self._killed: int | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a restart is under way."""
        return self.is_ordered or self._killed is not None

    def look(self) -> None:
        """Begin a restart where one is due, and see whether the server that was killed is back."""
        now = time.monotonic()
        if self.is_ordered or now < self._look_at:
            return
        self._look_at = now + _LOOK_S
        is_due = self._day.restarted < self._day.restarts * self._day.progress
        if self._killed is None and (not is_due or self._day.is_paused):
            return
        if self._killed is None and self._day.restarted % 2 == 0:
            self.is_ordered = True
            self.send("POST", "/v1/child/restart?wait=60", '{"when":"now"}')
            return
        pid = self._ready_pid()
        if pid is None or pid == self._killed:
            return
        if self._killed is None:
            self._killed = pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            self._killed = None
            self._day.restarted += 1
            self._day.killed += 1

    def readable(self) -> None:
        """The order was carried out."""
        for status, body in self.answers():
            if status != 200 or json.loads(body)["status"] != "done":
                raise RuntimeError(f"a restart: {status} {body!r}")
            self.hang_up()
            self.is_ordered = False
            self._day.restarted += 1

    def _ready_pid(self) -> int | None:
        child = json.loads(self._state.read_bytes())["child"]
        pid: int | None = child["pid"] if child["ready"] else None
        return pid


class Crowd:
    """Everybody; ``state`` is daemon-state.json."""

    def __init__(self, path: str, day: Day, state: Path) -> None:
        self.day = day
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._restarter = Restarter(path, day, self._selector, state)
        self._follower = Follower(path, day, self._selector)
        self._clients = [self._client(is_guest=bool(n % 2)) for n in range(_CLIENTS)]
        self._http = [HttpClient(path, day, self._selector) for _ in range(_HTTP_CLIENTS)]
        self._stir = (0, 0.0)
        self._follower.begin()

    def _client(self, *, is_guest: bool) -> Client:
        client = Client(self._path, self.day, is_guest=is_guest)
        self._selector.register(client.socket, selectors.EVENT_READ, client)
        return client

    @property
    def lost(self) -> int:
        """Events that the follower was not told of."""
        return self._follower.lost

    def work(self, until: Callable[[], bool]) -> None:
        """Let everybody work; then all that was begun is brought to its end."""
        self.day.is_paused = False
        for client in self._clients:
            client.begin()
        while not until():
            self._turn()
        self.day.is_paused = True
        while self._is_busy:
            self._turn()

    def hear_all(self, newest: int) -> None:
        """Have the follower hear of every event up to this one."""
        while self.day.recorded < newest:
            self._turn()

    @property
    def _is_busy(self) -> bool:
        has_open = any(client.open for client in self._clients)
        return self._restarter.is_busy or has_open or any(http.open for http in self._http)

    def _turn(self) -> None:
        for key, _ in self._selector.select(_LOOK_S):
            key.data.readable()
        self._restarter.look()
        for http in self._http:
            http.begin()
        for number, client in enumerate(self._clients):
            if client.is_over:
                self._selector.unregister(client.socket)
                client.close()
                self._clients[number] = another = self._client(is_guest=True)
                another.begin()
        self._see_that_it_goes_on()

    def _see_that_it_goes_on(self) -> None:
        now, done = time.monotonic(), self.day.turns + self.day.over + self.day.restarted
        if done != self._stir[0] or not self._stir[1]:
            self._stir = (done, now)
        elif now - self._stir[1] > _STALLED_S:
            raise TimeoutError(f"nothing went on for {_STALLED_S:g} s: {self.day}")

    def close(self) -> None:
        """Hang up for all of them."""
        for http in (self._restarter, self._follower, *self._http):
            http.hang_up()
        for client in self._clients:
            client.close()
        self._selector.close()
