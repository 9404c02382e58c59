"""What a client's module says of it: a class with this interface, in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tests.clients.place import Place
from tests.clients.play import Actor, Outcome, node_actor, play, python_actor
from tests.clients.stage import Stage


class Client(ABC):
    """One client of other people. ``attached`` says how it comes to codexd, empty where it does
    not; ``remark`` is what the reader of the table should know besides.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    attached: ClassVar[str] = "`codexd-codex` as its codex"
    remark: ClassVar[str] = ""

    @abstractmethod
    def install(self, place: Place) -> None:
        """Get it. Raises :class:`.place.CannotInstall`."""

    @abstractmethod
    def actor(self, stage: Stage) -> Actor:
        """Start one on a stage that is open."""

    def run(self, stage: Stage, count: int) -> Outcome:
        """Have ``count`` of them play side by side."""
        stage.open()
        return play(stage, lambda: self.actor(stage), count)


class PyPIClient(Client):
    """``name`` is a package of PyPI, and ``script`` uses it as its own documentation says.

    See :func:`.play.python_actor`. ``python`` is the version that it needs, if ours does not do.
    """

    script: ClassVar[str]
    python: ClassVar[str] = ""

    def install(self, place: Place) -> None:
        """See :class:`Client`."""
        self._interpreter: Path = place.pip(f"{self.name}=={self.version}", python=self.python)

    def actor(self, stage: Stage) -> Actor:
        """See :class:`Client`."""
        return python_actor(stage, self._interpreter, self.script)


class NpmClient(Client):
    """``name`` is a package of npm, and ``script`` uses it as its own documentation says.

    See :func:`.play.node_actor`.
    """

    script: ClassVar[str]

    def install(self, place: Place) -> None:
        """See :class:`Client`."""
        self._directory: Path = place.npm(f"{self.name}@{self.version}")

    def actor(self, stage: Stage) -> Actor:
        """See :class:`Client`."""
        return node_actor(stage, self._directory, self.script)
