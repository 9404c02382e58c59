"""What a client that runs a turn knows of it, without I/O: from the stream, or asked for later."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from codexd.client.calls import JsonObject
from codexd.client.errors import DaemonAway, DaemonError, Refused
from codexd.client.wire import Events
from codexd.encoding import UNDECODABLE, convert, decode_json
from codexd.shapes import FINISHED, RUNS, FinishedTurn, Turn

# Between two looks at a turn whose stream broke off.
LOOK_S: Final = 0.5
# HTTP's 503.
_UNAVAILABLE: Final = 503


class _Ref(msgspec.Struct, frozen=True):
    id: str | None = None


class _Params(msgspec.Struct, rename="camel", frozen=True):
    turn_id: str | None = None
    turn: _Ref = _Ref()


class _Notification(msgspec.Struct):
    params: _Params = _Params()


class TurnStream:
    """A turn as its stream tells it; ``on_start`` hears its id once it is known to run."""

    def __init__(self, on_start: Callable[[str], None] | None = None) -> None:
        self._on_start = on_start
        self.turn_id: str | None = None
        self.finished: FinishedTurn | None = None
        self._events = Events()

    def began(self, location: str) -> None:
        """The daemon has said where the turn is."""
        self.turn_id = unquote(location.rpartition("/")[2]) or None
        if self._on_start is not None and self.turn_id is not None:
            self._on_start(self.turn_id)

    def feed(self, data: bytes) -> list[JsonObject]:
        """The notifications that are whole now.

        Raises:
            DaemonError: what came is not what a daemon says.
        """
        told: list[JsonObject] = []
        for name, text in self._events.feed(data):
            try:
                if name == FINISHED:
                    self.finished = decode_json(text, FinishedTurn)
                    continue
                notification: JsonObject = decode_json(text, dict[str, Any])
                ref = convert(notification, _Notification).params
            except UNDECODABLE as error:
                raise DaemonError(f"The daemon's stream is not understood: {error}.") from error
            self.turn_id = ref.turn.id or ref.turn_id or self.turn_id
            told.append(notification)
        return told


def finished_of(turn: Turn) -> FinishedTurn | None:
    """How a turn ended that was asked for; None while it runs."""
    if turn.status == RUNS:
        return None
    return FinishedTurn(
        turn_id=turn.turn_id,
        status=turn.status,
        final_response=turn.final_response,
        usage=turn.usage,
        duration_ms=turn.duration_ms,
        error=turn.error,
    )


@contextlib.contextmanager
def passing_trouble() -> Iterator[None]:
    """What a daemon says, or does not, that has died or whose server has: it comes back."""
    try:
        yield
    except DaemonAway:
        return
    except Refused as error:
        if error.status != _UNAVAILABLE:
            raise


def turn_body(prompt: str | list[JsonObject], **more: Any) -> JsonObject:
    """The body that starts a turn."""
    return {"input": prompt, **{name: value for name, value in more.items() if value is not None}}
