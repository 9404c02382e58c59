"""Writing state files beside the loop: soon, but once for many changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from codexd.platform.files import Stamp, explain, stamp
from codexd.store.files import write_atomic

# A change waits so long for others to come; with the write itself that stays below 100 ms.
_GATHER_S: Final = 0.04
# The same after a pause: those that one thing brings with it come together.
_FIRST_GATHER_S: Final = 0.004
_PAUSE_S: Final = 0.25
_RETRY_S: Final = 0.2

logger = logging.getLogger("codexd")


class StateFile:
    """One file and where its contents come from; ``encode`` may be called from any thread."""

    def __init__(self, path: str, encode: Callable[[], bytes]) -> None:
        self.path = path
        self.trouble: str | None = None
        self.changed = threading.Event()
        # Somebody waits for it: nothing else is waited for.
        self.urgent = threading.Event()
        self._encode = encode
        self._written: Stamp | None = None
        self._writing = threading.Lock()

    def mark(self, *, urgent: bool = False) -> None:
        """What is on the disk is no longer what it should be."""
        if urgent:
            self.urgent.set()
        self.changed.set()

    def write(self) -> bool:
        """Write it, if it changed; whether it is right on the disk now."""
        with self._writing:
            if not self.changed.is_set():
                return True
            # Before the contents are taken: a change from here on is another one.
            self.urgent.clear()
            self.changed.clear()
            try:
                write_atomic(self.path, self._encode())
            except Exception as error:
                # Whatever it is: a thread that ends would leave the file wrong for good.
                self.changed.set()
                self.trouble = explain(error) if isinstance(error, OSError) else str(error)
                return False
            self._written = stamp(self.path)
            self.trouble = None
            return True

    def look(self) -> None:
        """Have it written again where it was taken away, or is not what it was when written.

        At first, what was read counts as written.
        """
        found = stamp(self.path)
        if found is None or found != (self._written or found):
            self.mark()
        elif self._written is None:
            self._written = found


class _State(Protocol):
    @property
    def files(self) -> Iterable[StateFile]: ...


class Flusher:
    """A thread for each file, so that a large one holds up no other."""

    def __init__(self, state: _State) -> None:
        self._files = tuple(state.files)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def trouble(self) -> str | None:
        """Why a file cannot be written, or None."""
        return next((file.trouble for file in self._files if file.trouble), None)

    def start(self) -> None:
        """Write what changes from now on."""
        for file in self._files:
            thread = threading.Thread(
                target=self._run, args=(file,), name=f"flush {file.path}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def flush(self) -> bool:
        """Write everything that changed, now and in this thread; whether all of it worked."""
        return all([file.write() for file in self._files])

    def must_be_written(self) -> None:
        """As :meth:`flush`.

        Raises:
            OSError: a file cannot be written. The text is one line for the user.
        """
        if not self.flush():
            raise OSError(self.trouble or "The state files cannot be written")

    def stop(self) -> None:
        """End the threads and write what is left, as far as the disk takes it."""
        self._stopping.set()
        if self._threads:
            for file in self._files:
                # Wakes the thread; a write more than needed does no harm.
                file.mark(urgent=True)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self.flush()

    def _run(self, file: StateFile) -> None:
        written_at = -_PAUSE_S
        while not self._stopping.is_set():
            file.changed.wait()
            has_rested = time.monotonic() - written_at >= _PAUSE_S
            file.urgent.wait(_FIRST_GATHER_S if has_rested else _GATHER_S)
            before = file.trouble
            is_written = file.write()
            written_at = time.monotonic()
            if file.trouble != before:
                _tell(file)
            if not is_written:
                self._stopping.wait(_RETRY_S)


def _tell(file: StateFile) -> None:
    if file.trouble is None:
        logger.warning("%s is written again", file.path)
    else:
        logger.error("%s cannot be written: %s", file.path, file.trouble)
