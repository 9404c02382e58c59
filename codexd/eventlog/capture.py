"""A child's output: from its pipe into the log, byte for byte, whatever the disk does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from codexd.eventlog.accounting import last_burst_detail, unaccounted
from codexd.eventlog.appendlog import AppendLog, Position
from codexd.eventlog.preview import SAMPLE_BYTES, preview
from codexd.eventlog.stage import Stage
from codexd.platform.pipes import CannotSplice

__all__ = ["Burst", "OutputCapture", "last_burst_detail", "unaccounted"]

_READ_BYTES: Final = 1 << 16
# A step that moved less has emptied the pipe. (Before a rotation it may have been asked for less:
# then the next look at the pipe goes on.)
_FEW_BYTES: Final = 1 << 12
# Where a step moved as much, the child may be waiting for the pipe: the next one goes by the stage.
_MUCH_BYTES: Final = 1 << 16
# What is kept of the output while the disk takes nothing; the pipe must be emptied all the same.
_MAX_HELD: Final = 1 << 20
_RETRY_S: Final = 0.2

OnData = Callable[[bytes], object]


class Burst(NamedTuple):
    """What a child wrote into the log since the last burst: ``bytes`` up to ``position``."""

    bytes: int
    preview: str
    position: Position

    def detail(self, stream: str) -> dict[str, object]:
        """The detail of the event that tells of it."""
        return {"bytes": self.bytes, "stream": stream, **self.position._asdict()}


class OutputCapture:
    """Moves one stream of one child after the other from their pipes into ``log``.

    Where the system can splice, no byte is ever out of the pipe and not yet in the log.

    ``written`` counts the bytes that the log took. ``on_burst`` is called before a rotation with
    what :meth:`take_burst` would tell too late; what both tell adds up to the bytes in the log.
    ``on_lost`` is called, once the disk is well again, with how many bytes it never got.
    """

    def __init__(
        self,
        log: AppendLog,
        *,
        on_burst: Callable[[Burst], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self._log = log
        self._on_burst = on_burst
        self._on_lost = on_lost
        self._splices = True
        self._is_much = False
        self._held = bytearray()
        self._lost = 0
        self._next_retry = 0.0
        # How many bytes the next burst has so far.
        self.burst_bytes = 0
        self._sample = b""
        self.written = 0

    def pump(
        self,
        pipe_fd: int,
        limit_bytes: int = 1 << 20,
        on_data: OnData | None = None,
        stage: Stage | None = None,
    ) -> int:
        """Move what is in a non-blocking pipe, up to about ``limit_bytes``; never waits.

        ``on_data`` gets every byte in order, whether the log took it or not. Much goes by the
        ``stage``; it is empty afterwards.

        Returns:
            How many bytes left the pipe; 0 when it was empty or has no writer any more.
        """
        moved = 0
        on_data = on_data or _ignore
        while moved < limit_bytes:
            try:
                if stage is not None and (stage.held or self._is_much):
                    count = self._move_staged(pipe_fd, limit_bytes - moved, on_data, stage)
                else:
                    count = self._move(pipe_fd, limit_bytes - moved, on_data)
            except BlockingIOError:
                self._is_much = False
                break
            moved += count
            if count < _FEW_BYTES:
                # All that there was: whoever watches the pipe hears of more without another look.
                self._is_much = False
                break
            self._is_much = count >= _MUCH_BYTES
        return moved

    def _move_staged(self, pipe_fd: int, limit_bytes: int, on_data: OnData, stage: Stage) -> int:
        """Move what is in the stage, or comes into it now, to the last byte."""
        if not stage.held:
            try:
                stage.fill(pipe_fd, limit_bytes)
            except BlockingIOError:
                raise
            except (CannotSplice, OSError):
                return self._move(pipe_fd, limit_bytes, on_data)
        moved = 0
        while stage.held:
            try:
                count = self._move(stage.descriptor, stage.held, on_data)
            except BlockingIOError:
                # It has less than was thought; the child is not to wait for the rest.
                stage.held = 0
                break
            stage.held -= count
            moved += count
        return moved

    def put(self, data: bytes) -> None:
        """Write what has left a pipe earlier; it counts from now on."""
        if self._held and not self._retry():
            self._keep(data)
            return
        while data:
            if self._log.full:
                self._rotate()
            piece = data[: self._log.room]
            written = self._log.write(piece)
            self._account(written, piece[:written])
            data = data[written:]
            if written < len(piece):
                self._keep(data)
                return

    def take_burst(self) -> Burst | None:
        """What the log got since the last call, or None; call it at most every 100 ms."""
        if self.burst_bytes == 0:
            return None
        text = preview(self._sample, is_cut=self.burst_bytes > len(self._sample))
        burst = Burst(self.burst_bytes, text, self._log.position)
        self.burst_bytes, self._sample = 0, b""
        return burst

    @property
    def is_holding(self) -> bool:
        """Whether there is something that the disk did not take yet."""
        return bool(self._held)

    def tail(self, count: int) -> bytes:
        """The last ``count`` bytes that the log took, or what its present file has of them."""
        return self._log.read_back(count)

    def tick(self) -> None:
        """Try again what the disk did not take, and see that the log is there."""
        if self._held:
            self._retry()
        else:
            self._log.heal()

    def close(self) -> None:
        """Write what is held if the disk takes it now, tell what is untold, close the log."""
        self._next_retry = 0.0
        if self._held and not self._retry():
            self._on_lost(self._lost + len(self._held))
        self._tell_burst()
        self._log.close()

    # -- one piece ---------------------------------------------------------------------------

    def _move(self, pipe_fd: int, limit_bytes: int, on_data: OnData) -> int:
        if self._held and not self._retry():
            return self._hold(pipe_fd, limit_bytes, on_data)
        if self._log.full:
            self._rotate()
        count = min(limit_bytes, self._log.room)
        if self._splices:
            try:
                return self._splice(pipe_fd, count, on_data)
            except CannotSplice:
                self._splices = False
            except BlockingIOError:
                raise
            except OSError:
                return self._hold(pipe_fd, limit_bytes, on_data)
        return self._copy(pipe_fd, count, on_data)

    def _rotate(self) -> None:
        self._tell_burst()
        self._log.rotate()

    def _tell_burst(self) -> None:
        burst = self.take_burst()
        if burst is not None:
            self._on_burst(burst)

    def _splice(self, pipe_fd: int, limit_bytes: int, on_data: OnData) -> int:
        count = self._log.splice_from(pipe_fd, limit_bytes)
        # Reading all of it back costs a copy that only a listener is worth.
        wanted = count if on_data is not _ignore else min(count, SAMPLE_BYTES - len(self._sample))
        data = self._log.read_back(wanted, before_end=count) if wanted else b""
        self._account(count, data)
        if count:
            on_data(data)
        return count

    def _copy(self, pipe_fd: int, limit_bytes: int, on_data: OnData) -> int:
        data = os.read(pipe_fd, min(limit_bytes, _READ_BYTES))
        written = self._log.write(data)
        self._account(written, data[:written])
        self._keep(data[written:])
        on_data(data)
        return len(data)

    def _account(self, count: int, data: bytes) -> None:
        room = SAMPLE_BYTES - len(self._sample)
        if room:
            self._sample += data[:room]
        self.burst_bytes += count
        self.written += count

    # -- trouble -----------------------------------------------------------------------------

    def _hold(self, pipe_fd: int, limit_bytes: int, on_data: OnData) -> int:
        """Empty the pipe without the log: the child must not wait for our disk."""
        data = os.read(pipe_fd, min(limit_bytes, _READ_BYTES))
        self._keep(data)
        on_data(data)
        return len(data)

    def _keep(self, data: bytes) -> None:
        if data and not self._held:
            self._next_retry = time.monotonic() + _RETRY_S
        # What is kept has no gap: once something is lost, all is until the disk is well.
        room = 0 if self._lost else _MAX_HELD - len(self._held)
        self._held += data[:room]
        self._lost += max(len(data) - room, 0)

    def _retry(self) -> bool:
        """Write what is held; whether all is well again."""
        if time.monotonic() < self._next_retry:
            return False
        self._next_retry = time.monotonic() + _RETRY_S
        while self._held:
            if self._log.full:
                self._rotate()
            piece = bytes(self._held[: self._log.room])
            written = self._log.write(piece)
            self._account(written, piece[:written])
            del self._held[:written]
            if written < len(piece):
                return False
        lost, self._lost = self._lost, 0
        if lost:
            self._on_lost(lost)
        return True


def _ignore(data: bytes) -> None:
    del data
