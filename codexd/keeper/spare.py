"""The talk with a spare: it is introduced like the child, asked now and then, and given nothing.

circusd learns from the report for which spare this plugin vouches, and promotes no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from codexd.child import pipes as child_io
from codexd.child.spare import HANDSHAKE
from codexd.child.steps import Spare
from codexd.contracts import EventLevel
from codexd.encoding import UNDECODABLE, decode_json
from codexd.eventlog.last_words import last_words
from codexd.keeper.outputs import Stream
from codexd.link.endpoint import Endpoint
from codexd.link.errors import LinkError, LinkLost
from codexd.link.link import Link
from codexd.link.transport_stdio import StdioTransport
from codexd.link.transport_websocket import WebSocketTransport
from codexd.platform.files import read_whole, write_aside
from codexd.platform.pipe_watch import PipeWatch, watch_pipe
from codexd.platform.process import ProcessId, identify

logger = logging.getLogger("codexd")

_GREET_S: Final = 30.0
_AGAIN_S: Final = 0.5
# Nobody waits longer for the first word of one that has just been promoted.
_FIRST_WORD_S: Final = 1.0
# What a server says before it has a thread is a hundredth of that.
_EARLY_BYTES: Final = 4 << 20
_READ_BYTES: Final = 64 << 10
_SAID_BYTES: Final = 4096

Record = Callable[[EventLevel, str, str, dict[str, Any] | None], None]
Feed = Callable[[bytes], None]
Around = Callable[[Feed, bytes], None]


class Introducer(Protocol):
    """Who knows as whom the server is greeted; ``is_caretaker``: as nobody's server so far."""

    def spare_introduction(self, *, lasting: bool = False) -> dict[str, Any] | None: ...

    @property
    def is_caretaker(self) -> bool: ...


class _Saved(msgspec.Struct):
    """What a restarted plugin must know of a spare that was promoted just before."""

    process: ProcessId
    result: msgspec.Raw


def saved_answer(runtime_dir: str, pid: int | None) -> bytes | None:
    """What the process ``pid`` answered to `initialize` while it was a spare."""
    process = None if pid is None else identify(pid)
    with contextlib.suppress(OSError, *UNDECODABLE):
        found = decode_json(read_whole(os.path.join(runtime_dir, HANDSHAKE)), _Saved)
        return bytes(found.result) if found.process == process else None
    return None


class Greeted:
    """A spare that was introduced, with all that the talk goes on with."""

    def __init__(
        self,
        link: Link,
        result: bytes,
        lost: asyncio.Future[str],
        mute: Callable[[], None],
        *,
        is_pipe: bool,
    ) -> None:
        self.link = link
        self.result = result
        self.lost = lost
        self._mute = mute
        self._is_pipe = is_pipe

    async def ask(self) -> None:
        """See that it answers, before anything is given to it.

        Raises:
            LinkError: it does not, which is told.
        """
        try:
            await self.link.probe(_FIRST_WORD_S)
        except LinkError as error:
            # A socket can be connected to anew, which shows whether the server lives.
            if self._is_pipe or not isinstance(error, LinkLost):
                self._mute()
            raise
        self.link.forget_held()


class _Early:
    """What a spare writes before it is the child: kept, for the log gets it then."""

    def __init__(self, runtime_dir: str, place: str, feed: Feed | None) -> None:
        self._feed = feed
        self._kept: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._descriptors: dict[Stream, int] = {}
        self._watches: dict[Stream, PipeWatch] = {}
        self.is_full = False
        loop = asyncio.get_running_loop()
        try:
            for stream in self._kept:
                path = child_io.pipe_path(runtime_dir, place, stream)
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._descriptors[stream] = descriptor
                self._watches[stream] = watch_pipe(loop, descriptor, self._reader(stream))
        except OSError:
            self.close()
            raise

    def _reader(self, stream: Stream) -> Callable[[], object]:
        return lambda: self._read(stream)

    def _read(self, stream: Stream) -> bool:
        """Read once; whether there was something."""
        if len(self._kept[stream]) > _EARLY_BYTES:
            # What follows stays in the pipe.
            self.is_full = True
            self._watches[stream].close()
            return False
        try:
            data = os.read(self._descriptors[stream], _READ_BYTES)
        except OSError:
            return False
        self._kept[stream] += data
        if stream == "stdout" and self._feed is not None:
            self._feed(data)
        return bool(data)

    def take(self) -> dict[Stream, bytes]:
        """All that there is, and nothing more is read."""
        for stream in self._descriptors:
            while self._read(stream):
                pass
        self.close()
        return {stream: bytes(data) for stream, data in self._kept.items()}

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._watches, self._descriptors = {}, {}


class _Talk:
    """The talk with one spare."""

    def __init__(
        self,
        runtime_dir: str,
        spare: Spare,
        lasting: bytes,
        socket: Callable[[str], WebSocketTransport],
        *,
        is_caretaker: bool,
    ) -> None:
        place = child_io.aside(spare.generation)
        # Whoever spoke with it before is gone with what it answered.
        is_first = child_io.speaks_first(runtime_dir, place)
        if not is_first:
            raise FileExistsError("another plugin has spoken with the spare")
        self.spare = spare
        self.lasting = lasting
        self.is_caretaker = is_caretaker
        # Who hears what it says on its stdout; nobody, where it listens on a socket.
        self.feed: Feed | None = None
        transport: StdioTransport | WebSocketTransport
        if spare.socket is None:
            pipe = child_io.pipe_path(runtime_dir, place, "stdin")
            transport = StdioTransport(pipe, is_first=True)
            self.feed = transport.feed
        else:
            transport = socket(spare.socket)
        self.early = _Early(runtime_dir, place, self.feed)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.link = Link(transport, on_message=self._heard, on_lost=self.lost.set_result)
        self.on_message: Callable[[bytes], None] | None = None
        self.result: bytes | None = None
        self.is_fit = False
        self.task: asyncio.Task[None] | None = None

    def _heard(self, data: bytes) -> None:
        if self.on_message is not None:
            self.on_message(data)

    def close(self) -> dict[Stream, bytes]:
        """End it; what the spare has written."""
        self.is_fit = False
        if self.task is not None:
            self.task.cancel()
        said = self.early.take()
        self.link.close()
        return said


class SpareTalk:
    """Speaks with one spare after the other.

    ``on_message`` hears a promoted one, ``on_change()`` is called when another is vouched for,
    ``on_mute(reason)`` when a promoted one does not answer.
    """

    def __init__(
        self,
        runtime_dir: str,
        introducer: Introducer,
        on_message: Callable[[bytes], None],
        record: Record,
        on_change: Callable[[], None],
        on_mute: Callable[[str], None],
        *,
        around: Around,
        token_file: str | None = None,
        interval_s: float,
        timeout_s: float,
    ) -> None:
        self._token_file = token_file
        self._around = around
        self._spare: Spare | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._runtime_dir = runtime_dir
        self._introducer = introducer
        self._on_message = on_message
        self._record = record
        self._on_change = on_change
        self._on_mute = on_mute
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._talk: _Talk | None = None
        self._last_said: Mapping[Stream, bytes] = {}
        self._promoted: tuple[int, _Talk] | None = None
        self._unfit: ProcessId | None = None
        self.promotions = 0

    @property
    def vouched(self) -> int | None:
        """The spare that may take the child's place."""
        talk = self._talk
        return talk.spare.process.pid if talk is not None and talk.is_fit else None

    @property
    def unfit(self) -> int | None:
        """The last one that is not to be spoken with."""
        return None if self._unfit is None else self._unfit.pid

    @property
    def generation(self) -> int | None:
        """Whose pipes are read here."""
        return None if self._talk is None else self._talk.spare.generation

    def status(self) -> dict[str, Any]:
        """What `codexd status --json` tells."""
        talk = self._talk
        pid = None if talk is None else talk.spare.process.pid
        return {"pid": pid, "ready": self.vouched is not None, "promotions": self.promotions}

    # -- one after the other -----------------------------------------------------------------

    def follow(self, spare: Spare | None) -> None:
        """Speak with the spare that there is; call it when it may have changed."""
        self._spare = spare
        talk = self._talk
        if talk is not None and (spare is None or spare.process != talk.spare.process):
            self._drop()
            talk = None
        if spare is None or spare.process == self._unfit:
            return
        if talk is None:
            self._begin(spare)
        elif talk.is_fit and self._is_stale(talk):
            self._withdraw(talk)

    def _is_stale(self, talk: _Talk) -> bool:
        """Whether it was introduced as somebody else, or says too much to be kept."""
        if talk.early.is_full:
            return True
        # One that is only looked after can be introduced as whoever comes.
        return not talk.is_caretaker and talk.lasting != self._lasting(talk.lasting)

    def _later(self) -> None:
        """Try again: the server itself has not been told yet who is speaking."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_AGAIN_S, lambda: self.follow(self._spare))

    def _lasting(self, otherwise: bytes = b"") -> bytes:
        params = self._introducer.spare_introduction(lasting=True)
        return otherwise if params is None else msgspec.json.encode(params)

    def _begin(self, spare: Spare) -> None:
        lasting = self._lasting()
        if identify(spare.process.pid) != spare.process:
            return
        if not lasting:
            self._later()
            return
        is_caretaker = self._introducer.is_caretaker
        try:
            talk = _Talk(self._runtime_dir, spare, lasting, self._socket, is_caretaker=is_caretaker)
        except OSError as error:
            logger.info("there is no talk with the spare: %s", error)
            self._unfit = spare.process
            self._on_change()
            return
        self._talk = talk
        talk.task = asyncio.get_running_loop().create_task(self._greet(talk))

    def _socket(self, path: str) -> WebSocketTransport:
        endpoint = Endpoint("unix", f"unix://{path}", path=path)
        return WebSocketTransport(endpoint, self._token_file, self._around)

    async def _greet(self, talk: _Talk) -> None:
        """Introduce codexd to it, and see that it goes on answering."""
        try:
            params = self._introducer.spare_introduction()
            talk.result = await talk.link.open(_GREET_S, params)
            if talk.result is None:
                raise LinkError("The spare was introduced before.")
            self._save(talk)
            talk.is_fit = True
            pid = talk.spare.process.pid
            self._record("info", "spare.ready", "A spare server answers.", {"pid": pid})
            self._on_change()
            while True:
                await asyncio.sleep(self._interval_s)
                await talk.link.probe(self._timeout_s)
                talk.link.forget_held()
                if self._is_stale(talk):
                    self._withdraw(talk)
                    return
        except LinkError as error:
            logger.info("the spare: %s", error)
            self._withdraw(talk)
        except Exception:
            logger.exception("the talk with the spare broke off")
            self._withdraw(talk)

    def _withdraw(self, talk: _Talk) -> None:
        self._unfit = talk.spare.process
        if talk is self._talk:
            self._drop()

    def _save(self, talk: _Talk) -> None:
        saved = _Saved(talk.spare.process, msgspec.Raw(talk.result or b"{}"))
        # Without it a plugin that is restarted just after a promotion knows less to tell clients.
        with contextlib.suppress(OSError):
            path = os.path.join(self._runtime_dir, HANDSHAKE)
            write_aside(path, msgspec.json.encode(saved), flush=False)

    def _drop(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            self._last_said = talk.close()
            self._on_change()

    # -- what becomes of it ------------------------------------------------------------------

    def ended(self, pid: int | None, code: int | None, reason: str | None) -> None:
        """circusd has seen its end, or could not start one."""
        if self._talk is not None and self._talk.spare.process.pid == pid:
            self._drop()
        said, self._last_said = self._last_said, {}
        level: EventLevel = "warn" if reason is None or pid is None else "info"
        if reason is None:
            stderr = said.get("stderr", b"")
            reason = last_words(stderr[-_SAID_BYTES:], is_cut=len(stderr) > _SAID_BYTES)
        why = f": {reason}" if reason else "."
        detail = {"pid": pid, "code": code, "reason": reason}
        self._record(level, "spare.ended", f"The spare ended{why}", detail)

    def promote(self, pid: int) -> Mapping[Stream, bytes]:
        """It is the child from now on; returns what it has written so far."""
        talk = self._talk
        self.promotions += 1
        if talk is None or talk.spare.process.pid != pid:
            return {}
        self._talk = None
        if talk.task is not None:
            talk.task.cancel()
        self._let_go()
        self._promoted = (pid, talk)
        return talk.early.take()

    def take(self, pid: int) -> Greeted | None:
        """The talk with a spare that was promoted; may be asked once."""
        talk = None if self._promoted is None else self._promoted[1]
        if self._promoted is None or self._promoted[0] != pid:
            talk = None
        # Who was only looked after has yet to be introduced, on another connection.
        if talk is None or talk.result is None or talk.is_caretaker:
            self._let_go()
            return None
        self._promoted = None
        talk.on_message = self._on_message
        reason = "The spare that took the server's place does not answer."
        return Greeted(
            talk.link,
            talk.result,
            talk.lost,
            lambda: self._on_mute(reason),
            is_pipe=talk.feed is not None,
        )

    def feed_of(self, pid: int) -> Feed | None:
        """Who hears what the promoted one says on its stdout."""
        if self._promoted is None or self._promoted[0] != pid:
            return None
        feed = self._promoted[1].feed
        return None if feed is None else functools.partial(self._around, feed)

    def close(self) -> None:
        """End the talk; the spare does not notice."""
        if self._timer is not None:
            self._timer.cancel()
        self._drop()
        self._let_go()

    def _let_go(self) -> None:
        """Of one that was promoted, and that nobody speaks with."""
        promoted, self._promoted = self._promoted, None
        if promoted is not None:
            promoted[1].link.close()
