"""The child's output: from the pipes of each generation into the logs, in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from codexd.child import pipes as child_io
from codexd.config import Paths
from codexd.contracts import EventLevel
from codexd.eventlog.appendlog import AppendLog
from codexd.eventlog.capture import Burst, OutputCapture
from codexd.eventlog.last_words import TAIL_BYTES, last_words
from codexd.eventlog.stage import Stage
from codexd.eventlog.types import PROTOCOL
from codexd.platform.pipe_watch import PipeWatch, watch_pipe
from codexd.platform.pipes import unread_bytes
from codexd.settings import Policy

Stream = Literal["stdout", "stderr"]
Record = Callable[[EventLevel, str, str, dict[str, object]], None]
Feed = Callable[[bytes], None]

# One event covers what a child writes in this time.
BURST_S = 0.1
# The same where it is the protocol itself, of which an event tells no more than that.
TALK_S = 60.0
_TALK_BYTES = 16 << 20
# So little in that time is what the server answers codexd itself: each event has files written and
# two processes look at them, so an idle daemon tells of it as seldom.
_LITTLE_BYTES = 4 << 10
_LITTLE_S = 600.0
# What was written longer than this before a child's end does not tell of it.
_LAST_WORDS_S = 5.0
# Bytes moved in one turn of the loop, so that a flood does not hold up everything else: a message
# of a hundred bytes takes the hub some 30 µs. What nobody listens to takes half a millisecond.
_TURN_BYTES = 128 << 10
_UNHEARD_BYTES = 1 << 20


@dataclass(slots=True)
class _Source:
    generation: int
    descriptor: int
    stage: Stage | None
    ended: bool = False
    # What was read of it before, while it was a spare's.
    early: bytes = b""

    @property
    def unread(self) -> int:
        """How many bytes it holds that are not in the log."""
        staged = 0 if self.stage is None else self.stage.held
        return staged + unread_bytes(self.descriptor)


class _LastWords:
    """Where in a log the last that a child said begins: after it had been silent for a while."""

    def __init__(self) -> None:
        self._begin = 0
        self._heard_at = -_LAST_WORDS_S

    def begin_anew(self, written: int) -> None:
        """Another child speaks from here on."""
        self._begin = written

    def heard(self, now: float, written_before: int) -> None:
        """The child wrote something."""
        if now - self._heard_at > _LAST_WORDS_S:
            self._begin = written_before
        self._heard_at = now

    def read(self, now: float, capture: OutputCapture) -> str | None:
        """What the child said last, if that was just now."""
        if now - self._heard_at > _LAST_WORDS_S:
            return None
        count = capture.written - self._begin
        return last_words(capture.tail(min(count, TAIL_BYTES)), is_cut=count > TAIL_BYTES)


class StreamLog:
    """One stream of every child, one child after the other, into one log."""

    def __init__(
        self,
        stream: Stream,
        log: AppendLog,
        runtime_dir: str,
        record: Record,
        on_empty: Callable[[int], None],
        on_held: Callable[[], None],
        *,
        may_be_protocol: bool = False,
        is_talk: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stream: Stream = stream
        self._is_talk = is_talk
        self._capture = OutputCapture(log, on_burst=self._tell, on_lost=self._tell_lost)
        self._runtime_dir = runtime_dir
        self._record = record
        self._may_be_protocol = may_be_protocol
        self._feed: tuple[int, Feed] | None = None
        self._on_empty = on_empty
        self._on_held = on_held
        self._sources: deque[_Source] = deque()
        self._loop = asyncio.get_event_loop()
        self._timer: asyncio.TimerHandle | None = None
        # Whether what is not told yet is the protocol.
        self._talks = False
        # As soon as a burst has more bytes it is not left to the timer.
        self._patient_bytes = _TALK_BYTES
        self._last_words = _LastWords()
        self._said: dict[int, str | None] = {}
        # How many bytes the children have written, whether the log took them or not.
        self.moved = 0
        self._watch: PipeWatch | None = None

    def hand_to(self, generation: int, feed: Feed) -> None:
        """Let ``feed`` have every byte that the child of ``generation`` writes from now on."""
        self._feed = (generation, feed)

    def add(self, generation: int, early: bytes = b"") -> None:
        """Read a new child's pipe, once those before it are empty; ``early`` came from it before.

        Raises:
            OSError: the pipe is not there.
        """
        path = child_io.pipe_path(self._runtime_dir, generation, self.stream)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Pipes of an earlier version have none.
        stage = None
        with contextlib.suppress(OSError):
            stage = Stage(child_io.stage_path(self._runtime_dir, generation, self.stream))
        self._sources.append(_Source(generation, descriptor, stage, early=early))
        if len(self._sources) == 1:
            self._listen()

    def ended(self, generation: int) -> None:
        """The child of ``generation`` is dead: what its pipe still holds is all there will be."""
        for source in self._sources:
            if source.generation <= generation:
                source.ended = True
        while self._sources and self._sources[0].ended:
            self._drop()
            if self._sources:
                self._listen()

    def take_last_words(self, generation: int) -> str | None:
        """What the dead child of ``generation`` said last; may be asked once."""
        return self._said.pop(generation, None)

    @property
    def is_holding(self) -> bool:
        """Whether there is something that the disk did not take yet."""
        return self._capture.is_holding

    def tick(self) -> None:
        """See that the log is there, and try again what the disk did not take."""
        self._capture.tick()

    def close(self) -> None:
        """Read what there is now, and stop."""
        while self._sources:
            self._drop()
        if self._timer is not None:
            self._timer.cancel()
        self._capture.close()

    def _listen(self) -> None:
        self._last_words.begin_anew(self._capture.written)
        source = self._sources[0]
        if source.early:
            self._capture.put(source.early)
            self.moved += len(source.early)
            source.early = b""
            self._tell_later()
            if self.is_holding:
                self._on_held()
        self._watch = watch_pipe(self._loop, source.descriptor, self._pump)
        if source.stage is not None and source.stage.held:
            # Nobody tells of what an earlier plugin left there.
            self._pump()

    def _pump(self) -> int:
        source = self._sources[0]
        if self._talks != self._is_talk():
            self._tell_burst()
            self._talks = not self._talks
        capture, feed = self._capture, self._feed
        before = capture.written
        listener = feed[1] if feed is not None and feed[0] == source.generation else None
        limit = _UNHEARD_BYTES if listener is None else _TURN_BYTES
        moved = capture.pump(source.descriptor, limit, listener, source.stage)
        self.moved += moved
        if capture.is_holding:
            self._on_held()
        if moved:
            self._last_words.heard(monotonic(), before)
            if self._timer is None or capture.burst_bytes > self._patient_bytes:
                self._tell_later()
        return moved

    def _tell_later(self) -> None:
        if not self._talks:
            if self._timer is None:
                self._timer = self._loop.call_later(BURST_S, self._tell_burst)
        elif self._capture.burst_bytes > _TALK_BYTES:
            self._tell_burst()
        else:
            self._set_timer(TALK_S, self._tell_of_talk, _TALK_BYTES)

    def _tell_of_talk(self) -> None:
        """A minute has passed; for little it takes ten."""
        if self._capture.burst_bytes > _LITTLE_BYTES:
            self._tell_burst()
        else:
            self._set_timer(_LITTLE_S - TALK_S, self._tell_burst, _LITTLE_BYTES)

    def _set_timer(self, delay_s: float, then: Callable[[], None], patient_bytes: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, then)
        self._patient_bytes = patient_bytes

    def _drop(self) -> None:
        # What there is now: whoever has the pipe from a child that is gone may write for ever.
        left = self._sources[0].unread
        while left > 0 and (moved := self._pump()):
            left -= moved
        source = self._sources.popleft()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        os.close(source.descriptor)
        if source.stage is not None:
            source.stage.close()
        self._tell_burst()
        if source.ended:
            said = self._last_words.read(monotonic(), self._capture)
            self._said = {source.generation: said}
            self._on_empty(source.generation)

    def _tell_burst(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._patient_bytes = _TALK_BYTES
        burst = self._capture.take_burst()
        if burst is not None:
            self._tell(burst)

    def _tell(self, burst: Burst) -> None:
        level: EventLevel = "warn" if self.stream == "stderr" else "info"
        # What goes between server and clients (prompts, answers) is not for the event log.
        is_secret = self._may_be_protocol and (self._talks or "{" in burst.preview)
        message = f"{self.stream}: {PROTOCOL if is_secret else burst.preview}"
        self._record(level, f"child.{self.stream}", message, burst.detail(self.stream))

    def _tell_lost(self, count: int) -> None:
        message = f"{count} bytes of {self.stream} could not be written to the log."
        self._record("error", "events.dropped", message, {"stream": self.stream, "bytes": count})


class Outputs:
    """Both streams of every generation; removes the pipes of a child when both are empty.

    ``may_be_protocol``: the child speaks on its stdout; ``is_talk()`` tells whether it does now.
    ``on_held()`` is called when the disk does not take something: from then on :meth:`tick` is to
    be called some times a second, while :attr:`is_holding`.
    """

    def __init__(
        self,
        paths: Paths,
        policy: Policy,
        runtime_dir: str,
        record: Record,
        on_held: Callable[[], None],
        *,
        may_be_protocol: bool,
        is_talk: Callable[[], bool],
    ) -> None:
        self._runtime_dir = runtime_dir
        self._open: dict[int, int] = {}
        # Whose pipes are not to be picked up: what came from them before must come first.
        self._reserved: int | None = None
        keeps = {"max_bytes": policy.log_max_bytes, "backups": policy.log_backups}
        self._streams = (
            StreamLog(
                "stdout",
                AppendLog(paths.stdout_log_path, **keeps),
                runtime_dir,
                record,
                self._emptied,
                on_held,
                may_be_protocol=may_be_protocol,
                is_talk=is_talk,
            ),
            StreamLog(
                "stderr",
                AppendLog(paths.stderr_log_path, **keeps),
                runtime_dir,
                record,
                self._emptied,
                on_held,
            ),
        )

    def scan(self) -> None:
        """Pick up the pipes of every generation that is there."""
        for generation in child_io.generations(self._runtime_dir):
            if generation != self._reserved:
                self.add(generation)

    def reserve(self, generation: int | None) -> None:
        """Leave the pipes of a spare alone until it is the child."""
        self._reserved = generation

    def add(self, generation: int, early: Mapping[Stream, bytes] | None = None) -> None:
        """Read the pipes of one generation, of which ``early`` was read before."""
        if generation in self._open:
            return
        # The pipes may be gone with the runtime directory; the child then has others soon.
        with contextlib.suppress(OSError):
            for stream in self._streams:
                stream.add(generation, (early or {}).get(stream.stream, b""))
                self._open[generation] = self._open.get(generation, 0) + 1

    def hand_to(self, generation: int, feed: Feed) -> None:
        """Let ``feed`` have what the child of ``generation`` says on its stdout from now on."""
        self._streams[0].hand_to(generation, feed)

    def is_lost(self, generation: int) -> bool:
        """Whether the pipes of one generation are neither read nor there to be."""
        is_read = generation in self._open
        return not is_read and generation not in child_io.generations(self._runtime_dir)

    def ended(self, generation: int) -> None:
        """The child of ``generation`` is dead."""
        for stream in self._streams:
            stream.ended(generation)

    def take_last_words(self, generation: int) -> str | None:
        """What the dead child of ``generation`` said last on its stderr; may be asked once."""
        return self._streams[1].take_last_words(generation)

    @property
    def moved(self) -> dict[Stream, int]:
        """How many bytes the children have written on each stream."""
        return {stream.stream: stream.moved for stream in self._streams}

    @property
    def is_holding(self) -> bool:
        """Whether there is something that the disk did not take yet."""
        return any(stream.is_holding for stream in self._streams)

    def tick(self) -> None:
        """See that the logs are there, and try again what the disk did not take."""
        for stream in self._streams:
            stream.tick()

    def close(self) -> None:
        """Read what there is now, and stop."""
        for stream in self._streams:
            stream.close()

    def _emptied(self, generation: int) -> None:
        self._open[generation] -= 1
        if self._open[generation] == 0:
            del self._open[generation]
            child_io.remove(self._runtime_dir, generation)
