"""What the watcher of the child and that of a spare have in common: what is started, and how."""

from __future__ import annotations

from collections.abc import Callable

from codexd.child.command import Program
from codexd.child.family import Family
from codexd.circus_ext.channel import Channel
from codexd.circus_ext.patient import PatientWatcher
from codexd.circus_ext.server_process import AppServerProcess


class ServerWatcher(PatientWatcher):
    """Watches a server. The attributes are set by :mod:`codexd.circus_ext.hooks`."""

    family: Family
    files: tuple[int, int]
    configured_program: Callable[[], Program]
    configured_args: list[str]
    configured_cmd: str
    configured_command: str
    stdin_is_null: bool
    channel: Channel

    @property
    def _process_class(self) -> type[AppServerProcess]:
        return AppServerProcess

    @property
    def cmd_was_set(self) -> bool:
        """Whether an operator replaced the command or the arguments (`circusctl set`)."""
        return bool(self.cmd != self.configured_cmd or self.args)
