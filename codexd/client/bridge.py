"""Joins a client, wherever it is, to the daemon's hub, over connections that are lost.

One loop over select(2) for one client. `codexd attach` has one, on its stdin and stdout;
`codexd app-server --listen` has one for each connection, in a thread of its own.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

from codexd.client.continuity import Continuity
from codexd.client.draining import refusal
from codexd.client.hub_wire import BridgeError, HubWire, Outgoing

# What is held for a side that is slow to take it, before the other side is left to wait.
_HELD_BYTES = 4 << 20
# After the client's last word: how long answers that are under way are waited for. codex itself
# ends at once and loses them.
_LINGER_S = 10.0
# A connection that lived shorter is not made anew at once.
_SHORT_LIFE_S = 1.0
_RETRY_DELAY_S = 0.02


class ClientGone(Exception):
    """The client hears nothing more."""


class ClientEnd(Protocol):
    """Where the client is. Both descriptors are for select(2).

    ``is_open`` says whether it may say more; ``hears_on``, whether it still waits for its answers
    once it has said its last word.
    """

    hears_on: bool

    @property
    def reader(self) -> int: ...
    @property
    def writer(self) -> int: ...
    @property
    def unsent(self) -> Outgoing: ...
    @property
    def is_open(self) -> bool: ...

    def early(self) -> list[bytes]:
        """The messages that have come before this began."""

    def read(self) -> list[bytes]:
        """The messages that have come. ClientGone: nobody is there."""

    def write(self) -> None:
        """Write of what is queued as much as can be now. ClientGone: nobody is there."""

    def send(self, message: bytes) -> None:
        """Queue a message."""


class Bridge:
    """One client on a daemon, over as many connections as it takes.

    ``connect()`` gives a connection, also after one was lost, or None where there is none yet; it
    raises BridgeError where there is to be none any more.
    """

    def __init__(self, connect: Callable[[], HubWire | None], client: ClientEnd) -> None:
        self._connect = connect
        self._client = client
        self._continuity = Continuity()
        self._deadline: float | None = None
        self._is_draining = False

    @property
    def is_busy(self) -> bool:
        """Whether a turn of the client's runs. Another thread may ask."""
        return self._continuity.turns_run

    def drain(self) -> None:
        """From now on the client may begin nothing. Another thread may call it."""
        self._is_draining = True

    def run(self) -> None:
        """Carry messages until the client has said all and is answered.

        Returns also, and at once, when the client is gone.

        Raises:
            BridgeError: the other side refused, or went away and did not come back, or did not
                answer everything in time.
        """
        self._open(self._first_connection())
        try:
            self._take_messages(self._wire.early)
            self._heard(self._client.early())
            while not self._is_done():
                for message in self._continuity.due(time.monotonic()):
                    self._wire.send(message)
                if self._wire.is_open or self._is_spoken_out:
                    self._turn(self._time_left())
                else:
                    self._go_on()
        except ClientGone:
            return
        finally:
            self._wire.close()
        if not self._client.hears_on:
            return
        if self._continuity.unanswered:
            count = self._continuity.unanswered
            raise BridgeError(f"Its stdin ended, and {count} of its requests had no answer yet.")
        if self._client.unsent.size:
            raise BridgeError("Its stdin ended, and nobody read the rest of its output.")

    def _first_connection(self) -> HubWire:
        while (wire := self._connect()) is None:
            time.sleep(_RETRY_DELAY_S)
        return wire

    def _open(self, wire: HubWire) -> None:
        self._wire = wire
        self._connected_at = time.monotonic()

    @property
    def _is_spoken_out(self) -> bool:
        """Whether all that is left to do is to have the client read."""
        if self._client.is_open:
            return False
        continuity = self._continuity
        return not (continuity.is_waiting if self._client.hears_on else continuity.held_bytes)

    def _is_done(self) -> bool:
        if self._deadline is None:
            return False
        if time.monotonic() > self._deadline:
            return True
        return self._is_spoken_out and not self._client.unsent.size and not self._wire.unsent.size

    def _time_left(self) -> float | None:
        times = [at for at in (self._deadline, self._continuity.next_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _go_on(self) -> None:
        """The connection is lost: what came on it is written, then comes the next one."""
        reason = self._wire.farewell
        self._wire.close()
        for message in self._continuity.lost():
            self._client.send(message)
        again_at = self._connected_at + _SHORT_LIFE_S
        try:
            while (wire := self._try(again_at)) is None:
                self._turn(_RETRY_DELAY_S)
                if self._is_done():
                    return
            self._open(wire)
        except BridgeError as error:
            self._flush_client()
            text = f"The daemon closed the connection{f': {reason}' if reason else ''}. {error}"
            raise BridgeError(text) from error
        for message in self._continuity.reconnected():
            self._wire.send(message)
        self._take_messages(self._wire.early)

    def _try(self, not_before: float) -> HubWire | None:
        return self._connect() if time.monotonic() >= not_before else None

    def _flush_client(self) -> None:
        deadline = time.monotonic() + _LINGER_S
        while self._client.unsent.size and time.monotonic() < deadline:
            if select.select([], [self._client.writer], [], _LINGER_S)[1]:
                self._client.write()

    def _turn(self, timeout: float | None) -> None:
        """Wait until something can be carried on, ``timeout`` seconds at most, and carry it."""
        wire, client = self._wire, self._client
        readers: list[int] = []
        writers: list[int] = []
        # Also with the socket gone: its end tells that nobody will read the rest either.
        if client.is_open and wire.unsent.size + self._continuity.held_bytes < _HELD_BYTES:
            readers.append(client.reader)
        to_hub = wire.socket.fileno()
        if wire.is_open and client.unsent.size < _HELD_BYTES:
            readers.append(to_hub)
        if wire.unsent.size:
            writers.append(to_hub)
        if client.unsent.size:
            writers.append(client.writer)
        readable, writable, _ = select.select(readers, writers, [], timeout)
        if client.writer in writable:
            self._write_client()
        if to_hub in writable:
            wire.write()
        if to_hub in readable:
            self._take_messages(wire.read())
        if client.reader in readable:
            self._heard(client.read())

    def _heard(self, messages: list[bytes]) -> None:
        for message in messages:
            self._take(message)
        if not self._client.is_open:
            self._deadline = time.monotonic() + _LINGER_S
        if self._wire.unsent.size:
            self._wire.write()

    def _take(self, message: bytes) -> None:
        refused = refusal(message) if self._is_draining else None
        if refused is not None:
            self._client.send(refused)
            return
        for passed in self._continuity.from_client(message):
            self._wire.send(passed)

    def _take_messages(self, messages: list[bytes]) -> None:
        for message in messages:
            sends = self._continuity.from_server(message)
            for own in sends.to_server:
                self._wire.send(own)
            for told in sends.to_client:
                self._client.send(told)

    def _write_client(self) -> None:
        self._client.write()
        if self._deadline is not None:
            self._deadline = time.monotonic() + _LINGER_S
