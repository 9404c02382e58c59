"""What `codexd start` tells people: who runs already, what it will make, where to attach."""

from __future__ import annotations

import os
import shlex
import sys

from codexd.cli.options import CliError
from codexd.cli.streams import tell
from codexd.client.find import flags_of
from codexd.client.ini import read_ini
from codexd.config import Config, setting_texts
from codexd.daemons.listing import running
from codexd.platform import lock
from codexd.settings import BY_NAME, quoted

# Of settings that differ, so many are told.
_MOST = 6


def running_pid(config: Config) -> int | None:
    """The daemon that runs here with these very settings; None where none does that is known.

    Raises:
        CliError: one runs with other settings. It says which.
    """
    holder = lock.living_holder(config.runtime.lock_path)
    own = read_ini(config.runtime.circus_ini_path) if holder is not None else None
    if holder is None or own is None or own.paths.state_dir != config.paths.state_dir:
        return None
    differing = differences(own, config)
    if not differing:
        return holder.pid
    more = len(differing) - _MOST
    told = "; ".join([*differing[:_MOST], *([f"and {more} more"] if more > 0 else [])])
    raise CliError(
        f"codexd already runs on {config.paths.state_dir}, as pid {holder.pid}, with other "
        f"settings ({told}): stop it with `codexd stop`, or choose another --state-dir."
    )


def differences(own: Config, asked: Config) -> list[str]:
    """Each setting that a daemon has otherwise than it is asked for, in a few words."""
    there, here = setting_texts(own), setting_texts(asked)
    return [
        f"{BY_NAME[name].flag} is {quoted(there[name])} there and {quoted(here[name])} here"
        for name in there
        if there[name] != here[name]
    ]


def attach_url(config: Config) -> str:
    """How codex's own clients are told where the hub is, as a word of a shell."""
    return shlex.quote(f"unix://{config.runtime.hub_socket_path}")


def tell_what_comes(config: Config) -> None:
    """Before the first thing is made, for whoever typed no more than `codexd`."""
    paths, server = config.paths, config.server
    verb = "goes on with" if os.path.isdir(paths.state_dir) else "makes"
    lines = [
        f"no daemon runs here: this starts one for {paths.repo_root}, until Ctrl-C",
        f"it {verb} state in {paths.state_dir} and logs in {paths.logs_dir}",
        f"and runs {shlex.join([server.child_command, *server.child_args])} in {server.child_cwd}"
        if server.child_strategy == "spawn"
        else f"and watches the server on {server.endpoint}",
    ]
    others = [daemon for daemon in running(os.environ) if daemon.state_dir != paths.state_dir]
    lines += [
        f"one runs elsewhere already: `codexd status {flag}` (pid {daemon.daemon.pid})"
        for daemon, flag in flags_of(others)
    ]
    for line in lines:
        tell(line)


def tell_where_to_attach(config: Config) -> None:
    """Once the server is ready; only a terminal is told."""
    if sys.stderr.isatty() and config.server.mode == "app-server":
        tell(f"attach with: codex --remote {attach_url(config)}")
