"""A launchd agent of this user (launchctl(1))."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from codexd.service.file import Kind, ServiceFile
from codexd.service.hands import Hands, ServiceError, output, succeeds
from codexd.service.manager import Manager, last_line

# What launchctl answers (errno.h): the job is still ending; the domain is not there.
_STILL_ENDING: Final = (36, 37)
_NO_DOMAIN: Final = 125
_POLL_S: Final = 0.1
# How long bootout may take to be believed where it answered an error, how long until it is said
# what is waited for, and how long in all: running turns may finish.
_DOUBT_S: Final = 2.0
_SAID_S: Final = 5.0
_PATIENCE_S: Final = 600.0
_START_S: Final = 10.0


class Launchd(Manager):
    """The agent ``label`` of the user whose home is ``home``."""

    kind: ClassVar[Kind] = "launchd"
    tool = "launchctl"
    comment = ("<!-- ", " -->")

    def __init__(self, home: str, label: str) -> None:
        self.label = label
        self.path = os.path.join(home, "Library/LaunchAgents", f"{label}.plist")
        self._domain = f"gui/{os.getuid()}"
        self.name = f"{self._domain}/{label}"

    def pid(self) -> int | None:
        """See :meth:`Manager.pid`."""
        text = output("launchctl", "print", self.name)
        found = re.search(r"^\s*pid = (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else None

    def is_loaded(self) -> bool:
        """See :meth:`Manager.is_loaded`."""
        return succeeds("launchctl", "print", self.name)

    def is_active(self) -> bool:
        """See :meth:`Manager.is_active`: KeepAlive does the rest."""
        return self.is_loaded()

    def has_given_up(self, file: ServiceFile, since: int) -> bool:
        """launchd never does; but one that said why it ended says the same again."""
        return self.last_words(file, since) is not None

    def last_words(self, file: ServiceFile, since: int) -> str | None:
        """See :meth:`Manager.last_words`."""
        try:
            data = Path(file.error_log or "").read_bytes()
        except OSError:
            return None
        # Shorter than it was: codexd keeps it from growing for ever.
        return last_line(data[since if since <= len(data) else 0 :].decode("utf-8", "replace"))

    def check_command(self) -> Sequence[str]:
        """See :meth:`Manager.check_command`."""
        return ("plutil", "-lint") if shutil.which("plutil") else ()

    def start(self, hands: Hands) -> None:
        """See :meth:`Manager.start`."""
        if self.is_loaded():
            self._stop(hands)
        # Where this does not go, bootstrap says why.
        hands.run("launchctl", "enable", self.name)
        answer = self._bootstrap(hands)
        if answer == _NO_DOMAIN:
            raise ServiceError(
                f"{self.path} is written and not started: you are not logged in at this Mac's "
                f"screen, and only there has launchd a place for your agents ({self._domain}). "
                "Log in there, or turn on automatic login; or run codexd as a LaunchDaemon, "
                "which needs no login (docs/how-to/install-launchd.md)."
            )
        if answer != 0:
            raise ServiceError(f"launchctl bootstrap {self._domain} {self.path} answered {answer}.")
        # RunAtLoad has done it, but for an agent that launchd holds back for a while.
        hands.run("launchctl", "kickstart", self.name)

    def _bootstrap(self, hands: Hands) -> int:
        deadline = time.monotonic() + _START_S
        while True:
            answer = hands.run("launchctl", "bootstrap", self._domain, self.path)
            if answer not in _STILL_ENDING or time.monotonic() > deadline:
                return answer
            time.sleep(_POLL_S)

    def remove(self, hands: Hands) -> None:
        """See :meth:`Manager.remove`."""
        # The file first: whatever becomes of the rest, the agent is not back at the next login.
        hands.remove(self.path)
        if self.is_loaded():
            self._stop(hands)

    def _stop(self, hands: Hands) -> None:
        """Stop the agent and wait until launchd has let go of it.

        bootout returns before, and bootstrap refuses while it is there.
        """
        answer = hands.run("launchctl", "bootout", self.name)
        begun, is_said = time.monotonic(), False
        while not hands.is_dry and self.is_loaded():
            waited = time.monotonic() - begun
            if answer not in (0, *_STILL_ENDING) and waited > _DOUBT_S:
                raise ServiceError(f"launchctl bootout {self.name} answered {answer}.")
            if waited > _PATIENCE_S:
                raise ServiceError(f"launchd does not let go of {self.name}.")
            if waited > _SAID_S and not is_said:
                hands.say(f"waiting for {self.name} to end: running turns may finish")
                is_said = True
            time.sleep(_POLL_S)

    def where_output_is(self, file: ServiceFile) -> str:
        """See :meth:`Manager.where_output_is`."""
        return f"its output is in {os.path.dirname(file.error_log or '')}"

    def advice(self) -> str | None:
        """See :meth:`Manager.advice`."""
        return None
