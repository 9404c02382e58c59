"""What the checks look at: one daemon, whether it runs or not, and the user's environment."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codexd.child import steps
from codexd.client.live import Live, look
from codexd.codex_home import codex_home
from codexd.config import Config
from codexd.daemons.homes import served_home
from codexd.daemons.listing import running
from codexd.platform.filelock import FileLock
from codexd.platform.process import ProcessId
from codexd.store.snapshot import read_snapshot

# Only its own writer, the plugin, signs it; while none runs, the daemon does.
_WRITER_LOCK = "writer.lock"


@dataclass(frozen=True)
class Scene:
    """One look at a daemon; what is asked for more than once is found once.

    Attributes:
        config: Its settings; those that this process was told, where it does not run.
        process: The daemon; None where it does not run.
        environ: The environment of whoever asks.
        faults: What is wrong with the settings, so that others than the user's were taken.
        settings_path: The settings file that was read; None for none.
    """

    config: Config
    process: ProcessId | None
    environ: Mapping[str, str] = field(repr=False)
    faults: tuple[str, ...] = ()
    settings_path: str | None = None

    @functools.cached_property
    def live(self) -> Live:
        """What really runs, and what the hub says."""
        return look(self.config, read_snapshot(self.config).daemon)

    @functools.cached_property
    def hub(self) -> dict[str, Any] | None:
        """What the hub says; None where nobody answers."""
        hub = self.live.details["hub"]
        return hub if isinstance(hub, dict) else None

    @functools.cached_property
    def supervised(self) -> steps.Supervision:
        """What circusd did with the child."""
        return steps.load(steps.path_of(self.config.paths.state_dir))

    @functools.cached_property
    def served_home(self) -> str | None:
        """The CODEX_HOME of the server: as its daemon says, or as it would be; None for none."""
        for entry in running(self.environ):
            if entry.daemon == self.process:
                return entry.codex_home
        return served_home(self.config.server, self.environ)

    @functools.cached_property
    def codex_home(self) -> str:
        """Where codex has its configuration and login, also where no server uses it."""
        return self.served_home or codex_home(self.environ, cwd=self.config.server.child_cwd)

    @property
    def codex_environ(self) -> dict[str, str]:
        """The environment, with the CODEX_HOME of the server."""
        return {**self.environ, "CODEX_HOME": self.codex_home}

    @functools.cached_property
    def writer(self) -> ProcessId | None:
        """Who signed for the state files last: the plugin, while there is one."""
        return FileLock(os.path.join(self.config.paths.state_dir, _WRITER_LOCK)).signature()
