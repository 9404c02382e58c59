"""What launchd and systemd have in common: one service of this user, and its file."""

from __future__ import annotations

import abc
import shutil
from collections.abc import Sequence
from typing import ClassVar

from codexd.service.file import Kind, ServiceFile
from codexd.service.hands import Hands, ServiceError


class Manager(abc.ABC):
    """A service manager, for one service of this user.

    Attributes:
        name: The service, as the manager calls it.
        label: The service, as people call it.
        path: Its file.
    """

    kind: ClassVar[Kind]
    tool: ClassVar[str]
    # What a comment at the end of the file stands between.
    comment: ClassVar[tuple[str, str]]

    name: str
    label: str
    path: str

    def need_tool(self) -> None:
        """See that the manager is there.

        Raises:
            ServiceError: there is none.
        """
        if shutil.which(self.tool) is None:
            raise ServiceError(
                f"There is no {self.tool} on PATH: {self.kind} does not run this machine. "
                "`codexd start --detach` runs without it; `codexd render-circus` is for a circusd."
            )

    @abc.abstractmethod
    def pid(self) -> int | None:
        """The process of the service now."""

    @abc.abstractmethod
    def is_loaded(self) -> bool:
        """Whether the manager knows the service, and starts it by itself."""

    @abc.abstractmethod
    def is_active(self) -> bool:
        """Whether there is nothing to do to have the service run."""

    @abc.abstractmethod
    def has_given_up(self, file: ServiceFile, since: int) -> bool:
        """Whether the service will not come up any more; ``since`` as in :meth:`last_words`."""

    @abc.abstractmethod
    def last_words(self, file: ServiceFile, since: int) -> str | None:
        """The last line of codexd's own since the service was started.

        ``since`` is how long its error log was then, where it has one.
        """

    @abc.abstractmethod
    def check_command(self) -> Sequence[str]:
        """The command that must like a new service file; empty for none."""

    @abc.abstractmethod
    def start(self, hands: Hands) -> None:
        """Have the service run what its file says now.

        Raises:
            ServiceError: the manager refuses.
        """

    @abc.abstractmethod
    def remove(self, hands: Hands) -> None:
        """Stop the service and take its file away.

        Raises:
            ServiceError: the manager does not let go of it.
        """

    @abc.abstractmethod
    def where_output_is(self, file: ServiceFile) -> str:
        """Where to read what the service says, as the end of a sentence."""

    @abc.abstractmethod
    def advice(self) -> str | None:
        """What to know once it is installed."""


def last_line(text: str) -> str | None:
    """The last line that codexd said, in a text of many."""
    lines = [line for line in text.splitlines() if line.startswith("codexd: ")]
    return lines[-1].removeprefix("codexd: ") if lines else None
