"""Asks the daemon, and tells what it hears, in threads of its own: no answer holds up a key."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from codexd.cli.top.processes import Processes
from codexd.cli.top.restarts import COUNTED, DAY_S, epoch
from codexd.cli.top.shown import Away, Broken, Fed, Looked, Note, Past, Snapshot, Status
from codexd.client.errors import DaemonAway, DaemonError
from codexd.client.find import find_daemon
from codexd.client.sync import Client
from codexd.config import Config
from codexd.contracts import Event
from codexd.encoding import convert
from codexd.eventlog.reader import events_backward
from codexd.platform import lock
from codexd.settings import SettingError
from codexd.shapes import Session

_EVERY_S: Final = 1.0
# What no event tells of sessions: titles, and who came to a thread.
_SESSIONS_S: Final = 5.0
_ANSWER_S: Final = 5.0
_THREAD_S: Final = 30.0
# What the daemon itself waits for a restart, before it answers how it is going (HTTP, wait).
_RESTART_S: Final = 3600.0
_CHANGES_SESSIONS: Final = ("session.", "turn.", "client.")
# More of the past is not read: of a daemon whose server is in a crash loop, or that talks a lot.
_MOST_EVENTS: Final = 200_000
# And so many of the newest, however old.
_RECENT: Final = 100


class Feed:
    """Tells ``tell`` of one daemon, from whatever thread, for good."""

    def __init__(self, config: Config, tell: Callable[[Fed], None]) -> None:
        self._config = config
        self._tell = tell
        self._processes = Processes()
        self._sessions: list[Session] = []
        self._sessions_at: float | None = None
        self._daemon_id: str | None = None

    def start(self) -> None:
        """Begin; it ends with the process."""
        self._thread(self._poll)

    # -- how it is -----------------------------------------------------------------------------

    def _poll(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                snapshot = self._ask(begun)
            except (DaemonError, OSError) as error:
                self._tell(Away(self._why(error)))
                self._sessions_at = None
                self._find_again()
            else:
                self._follow(snapshot.status)
                self._tell(snapshot)
            time.sleep(max(0.0, begun + _EVERY_S - time.monotonic()))

    def _client(self, timeout_s: float = _ANSWER_S) -> Client:
        return Client(socket_path=self._config.runtime.hub_socket_path, timeout_s=timeout_s)

    def _ask(self, now: float) -> Snapshot:
        client = self._client()
        try:
            status = convert(client.status(), Status)
        except msgspec.ValidationError as error:
            raise DaemonError(f"The daemon's answer is not understood: {error}.") from error
        if self._sessions_at is None or now - self._sessions_at >= _SESSIONS_S:
            # What an event tells meanwhile counts again.
            self._sessions_at = now
            self._sessions = client.sessions(status="active")
        server = status.daemon.child.pid
        processes = self._processes.read(status.live.daemon_pid, server, now)
        return Snapshot(now, status, self._sessions, processes)

    def _why(self, error: DaemonError | OSError) -> str:
        if isinstance(error, DaemonAway):
            if lock.living_holder(self._config.runtime.lock_path) is None:
                where = self._config.paths.state_dir
                return f"No daemon runs on {where}: start it with `codexd start`."
            return "The daemon runs, and its hub does not answer."
        return str(error)

    def _find_again(self) -> None:
        """It may be started anew with other settings."""
        root = self._config.paths.state_root_dir
        with contextlib.suppress(DaemonError, SettingError, OSError):
            self._config = find_daemon(state_dir=root).config

    # -- what happens --------------------------------------------------------------------------

    def _follow(self, status: Status) -> None:
        """Begin to tell of the events, where these are another daemon's than so far."""
        daemon_id = status.identity.daemon_id if status.identity else ""
        if daemon_id == self._daemon_id:
            return
        self._daemon_id = daemon_id
        # What comes after this answer is news.
        recent = status.recent_events.events
        until = recent[-1].seq if recent else None
        past = read_past(self._config.paths.structured_event_log_path, until)
        if not past.recent:
            # The log cannot be read.
            past = Past(counted=recent, recent=recent)
        self._tell(past)
        since = past.recent[-1].seq if past.recent else 0
        self._thread(lambda: self._hear_events(daemon_id, until or since))

    def _hear_events(self, daemon_id: str, since: int) -> None:
        # Looked up anew whenever the stream breaks off.
        client = Client(state_dir=self._config.paths.state_root_dir, timeout_s=_ANSWER_S)
        while daemon_id == self._daemon_id:
            with contextlib.suppress(DaemonError):
                for event in client.events(since=since, follow=True):
                    if daemon_id != self._daemon_id:
                        return
                    since = event.seq
                    self._hear_event(event)
            time.sleep(_EVERY_S)

    def _hear_event(self, event: Event) -> None:
        self._tell(event)
        if event.type.startswith(_CHANGES_SESSIONS):
            self._sessions_at = None

    # -- what the user asks for ----------------------------------------------------------------

    def restart(self) -> None:
        """Have the server restarted when no turn runs, and tell what becomes of it."""
        self._tell(Note("The server is restarted as soon as no turn runs.", is_over=False))
        self._thread(self._restart)

    def _restart(self) -> None:
        try:
            change = self._client().child.restart(when="idle", wait_s=_RESTART_S)
        except DaemonAway as error:
            self._tell(Note(f"Whether the server was restarted is not known: {error}"))
            return
        except DaemonError as error:
            self._tell(Note(f"Not restarted: {error}"))
            return
        texts = {"done": "The server was restarted.", "doing": "The restart still waits."}
        self._tell(Note(texts.get(change.status) or f"Not restarted: {change.error}"))

    def look(self, thread_id: str) -> None:
        """Read a thread, and tell."""
        self._thread(lambda: self._look(thread_id))

    def _look(self, thread_id: str) -> None:
        try:
            thread = self._client(_THREAD_S).threads.get(thread_id)
        except DaemonError as error:
            self._tell(Looked(thread_id, None, str(error)))
        else:
            self._tell(Looked(thread_id, thread))

    def _thread(self, run: Callable[[], None]) -> None:
        def run_seen() -> None:
            try:
                run()
            except Exception as error:
                self._tell(Broken(error))

        threading.Thread(target=run_seen, daemon=True).start()


def read_past(path: str, until: int | None = None) -> Past:
    """What an event log tells of the past, up to the event ``until``."""
    begin = time.time() - DAY_S
    counted: list[Event] = []
    recent: list[Event] = []
    past = (event for event in events_backward(path) if until is None or event.seq <= until)
    with contextlib.suppress(OSError):
        for count, event in enumerate(past):
            is_old = (epoch(event.created_at) or begin) < begin
            if count >= (_RECENT if is_old else _MOST_EVENTS):
                break
            if count < _RECENT:
                recent.append(event)
            if event.type in COUNTED and not is_old:
                counted.append(event)
    return Past(counted[::-1], recent[::-1])
