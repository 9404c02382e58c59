"""What a shell completes: words that are known, and ids that the daemon's files hold.

Files are read where there are any, so that it is quick and works without a daemon; what waits for
leave only the daemon knows, and it has a second for it. Whatever goes wrong, nothing is completed
and nothing is said, for somebody is in the middle of a line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from codexd.settings import SETTINGS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from codexd.config import Config
    from codexd.contracts import SessionRecord
    from codexd.shapes import Approval

# As click names it after the program.
VARIABLE: Final = "_CODEXD_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")
# More than that nobody looks through.
_MOST: Final = 200
# For the daemon's answer: no longer than a second.
_PATIENCE_S: Final = 1.0


class Words(click.ParamType[str]):
    """A word out of some that are known when it is completed. Any other is taken as well."""

    name = "text"

    def words(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Each with a few words about it."""
        raise NotImplementedError

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        """Those that begin so."""
        del param
        from click.shell_completion import CompletionItem

        found = [(word, help_) for word, help_ in self.words(ctx) if word.startswith(incomplete)]
        return [CompletionItem(word, help=help_) for word, help_ in found[:_MOST]]


class SessionIds(Words):
    """The id of a session."""

    def words(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Those of session-registry.json, the newest first."""
        return [
            (entry.session_id, f"{entry.purpose} {entry.status} {entry.thread_id or ''}".strip())
            for entry in _sessions(ctx)
        ]


class ThreadIds(Words):
    """The id of a thread."""

    def words(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Those that have a session, the newest first."""
        found = {e.thread_id: e for e in reversed(_sessions(ctx)) if e.thread_id is not None}
        return [(name, f"{e.purpose} {e.status}") for name, e in reversed(found.items())]


class ApprovalIds(Words):
    """The id of an approval."""

    def words(self, ctx: click.Context) -> list[tuple[str, str]]:
        """Those that wait, the newest first."""
        return [(entry.approval_id, entry.kind) for entry in reversed(_approvals(ctx))]


# By what a command calls them, so that none needs to know of completion.
_IDS: Final[dict[str, Words]] = {
    "approval_id": ApprovalIds(),
    "session_id": SessionIds(),
    "session_ids": SessionIds(),
    "thread": ThreadIds(),
    "thread_id": ThreadIds(),
}


def with_ids(command: click.Command) -> click.Command:
    """``command``, and those below it, with ids where they take some."""
    for parameter in command.params:
        if parameter.type is click.STRING and parameter.name in _IDS:
            parameter.type = _IDS[parameter.name]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_ids(below)
    return command


def _sessions(ctx: click.Context) -> list[SessionRecord]:
    from codexd.store.snapshot import read_sessions

    config = _config(ctx)
    found = [] if config is None else read_sessions(config.paths).sessions
    return sorted(found, key=lambda entry: entry.created_at, reverse=True)


def _approvals(ctx: click.Context) -> list[Approval]:
    from codexd.client.errors import DaemonError
    from codexd.client.http import get
    from codexd.encoding import UNDECODABLE, decode_json
    from codexd.shapes import ApprovalList

    config = _config(ctx)
    if config is None:
        return []
    try:
        status, body = get(config.runtime.hub_socket_path, "/v1/approvals", _PATIENCE_S)
        return decode_json(body, ApprovalList).approvals if status == 200 else []
    except (DaemonError, *UNDECODABLE):
        return []


def _config(ctx: click.Context) -> Config | None:
    """The settings of the daemon that the line so far leads to."""
    from codexd.client.errors import DaemonError
    from codexd.client.find import locate, working_directory
    from codexd.settings import SettingError
    from codexd.settings_file import read_settings_file

    flags = {setting.name: ctx.params.get(setting.name) for setting in SETTINGS}
    try:
        file = read_settings_file(ctx.params.get("settings_file"), os.environ)
        return locate(flags, os.environ, cwd=working_directory(), file=file).config
    except (SettingError, DaemonError, OSError):
        return None


def complete(cli: click.Command, instruction: str) -> None:
    """Do what a shell's script asks for in :data:`VARIABLE`."""
    from click.shell_completion import shell_complete

    # Somebody types: whatever it is, a traceback between the words is no help.
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        shell_complete(cli, {}, "codexd", VARIABLE, instruction)
    except Exception:
        return


def script(cli: click.Command, shell: str) -> str:
    """What ``shell`` is to run so that it completes codexd's words."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    return made(cli, {}, "codexd", VARIABLE).source()
