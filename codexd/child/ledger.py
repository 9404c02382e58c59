"""Keeping watcher.json: each step has its number, is told, and gets into the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from codexd.child import steps
from codexd.child.steps import Spare, Step, StepKind
from codexd.encoding import encode_json
from codexd.platform.files import Stamp, stamp
from codexd.platform.process import ProcessId, identify

# A daemon that is killed may have published this many steps that are not in its file; their
# numbers are not used again, or the event log would take new steps for those.
_MAX_UNSAVED = 1000
# How soon a file that could not be written is tried again.
_RETRY_S = 1.0

Publish = Callable[[str, dict[str, Any]], None]
CallLater = Callable[[float, Callable[[], None]], Any]


class Ledger:
    """The one writer of the watcher.json at ``path``, for as long as the daemon lives.

    ``publish(topic, message)`` sends a message on circus's event stream, ``call_later(seconds,
    callback)`` sets a timer. Circus may make the watcher anew within one daemon, and with it come
    others: see :meth:`attach`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._record = steps.load(path)
        self._spawns = 0
        self._record.daemon = identify(os.getpid())
        self._record.child = self._record.spare = None
        self._generation = self._record.generation
        # The time, too: the file may have been lost, or not been written for long.
        begin = max(self._record.last_number + _MAX_UNSAVED, int(time.time()))
        self._record.begin = self._number = begin
        self._untold: list[Step] = []
        self._is_saved = False
        self._stamp: Stamp | None = None
        self._is_tried_again = False

    def attach(self, publish: Publish, call_later: CallLater) -> None:
        """Have steps told, and what could not be written tried again, by a watcher of circus."""
        self._publish = publish
        self._call_later = call_later
        self._is_tried_again = False
        self.save()

    @property
    def generation(self) -> int:
        """The number of the newest pipes."""
        return self._record.generation

    @property
    def has_child(self) -> bool:
        """Whether there is a child on record."""
        return self._record.child is not None

    def next_generation(self) -> int:
        """Begin another generation; its number."""
        self._generation = self.next_aside()
        return self._generation

    def next_aside(self) -> int:
        """The number of another generation, which is not the child's."""
        self._record.generation += 1
        return self._record.generation

    @property
    def spare(self) -> Spare | None:
        """The spare on record."""
        return self._record.spare

    def note_spare(self, spare: Spare | None) -> None:
        """There is a spare, or none any more; :meth:`save` is the caller's to call."""
        self._record.spare = spare
        self._is_saved = False

    def promoted(self) -> None:
        """The spare's pipes are the child's; :meth:`spawned` follows."""
        if self._record.spare is not None:
            self._generation = self._record.spare.generation
        self.note_spare(None)

    def spawned(
        self,
        child: ProcessId | None,
        executable: tuple[str, int, int] | None,
        **facts: Any,
    ) -> None:
        """There is a child."""
        self._spawns += 1
        self._record.child = child
        self._record.executable = executable
        self.note("spawned", attempt=self._spawns, **facts)

    def ended(self, **facts: Any) -> None:
        """The child is gone."""
        self._record.child = None
        self.note("ended", **facts)

    def note(self, kind: StepKind, **facts: Any) -> None:
        """Add a step; :meth:`save` and :meth:`tell` are the caller's to call, in this order."""
        self._number += 1
        step = Step(
            number=self._number,
            kind=kind,
            at=time.time(),
            generation=self._generation,
            **facts,
        )
        self._record.steps.append(step)
        self._untold.append(step)
        self._is_saved = False

    def tell(self) -> None:
        """Publish the steps that were not yet: whoever hears of one may look into the file."""
        untold, self._untold = self._untold, []
        for step in untold:
            self._publish("step", msgspec.json.decode(encode_json(step)))

    def save(self) -> None:
        """Write the file, unless it holds everything; what cannot be written is tried again.

        A full disk must not keep a child from starting: meanwhile the event stream carries the
        steps.
        """
        if self._is_saved:
            return
        try:
            steps.save(self._path, self._record)
            self._stamp = stamp(self._path)
            self._is_saved = True
        except OSError:
            if not self._is_tried_again:
                self._is_tried_again = True
                self._call_later(_RETRY_S, self._try_again)

    @property
    def unsaved(self) -> dict[str, Any] | None:
        """All that the file would hold, in its form; None where it does hold it."""
        if self._is_saved:
            return None
        record: dict[str, Any] = msgspec.json.decode(encode_json(self._record))
        return record

    def keep(self) -> None:
        """See that the file is there, and still what was written; call it every second."""
        if stamp(self._path) != self._stamp:
            self._is_saved = False
        self.save()

    def _try_again(self) -> None:
        self._is_tried_again = False
        self.save()
