"""What launchd and systemd are told alike: the program and its environment."""

from __future__ import annotations

import json
import math
import os
import sys

from codexd.config import Config, resolve, setting_texts
from codexd.settings import BY_NAME

# Always written, as the reference does; the others only where they differ from their default.
_ALWAYS = (
    "node_id",
    "logs_dir",
    "state_dir",
    "mode",
    "server_strategy",
    "server_command",
    "server_args",
    "server_cwd",
    "server_endpoint",
    "event_cache_size",
    "smoke_lifetime_ms",
    # The working directory says the same, but a process sees it with its links resolved.
    "repo_root",
)
# What the daemon does after the child has had its stop timeout: see it end, write it down.
_STOP_MARGIN_S = 15


def default_program() -> list[str]:
    """The command of the codexd that runs now, as absolute words.

    A service manager knows no PATH of ours and no virtual environment.
    """
    script = os.path.join(os.path.dirname(sys.executable), "codexd")
    # -P: not to import what lies about in the service's working directory.
    return [script] if os.access(script, os.X_OK) else [sys.executable, "-P", "-m", "codexd"]


def search_path(home: str, *system: str) -> str:
    """A PATH of the directories ``system`` and then the user's own."""
    return ":".join([*system, os.path.join(home, ".local/bin"), os.path.join(home, "bin")])


def stop_timeout_s(config: Config) -> int:
    """How long the service manager waits before it kills, in seconds."""
    return math.ceil(config.policy.stop_timeout_ms / 1000) + _STOP_MARGIN_S


def setting_variables(config: Config) -> dict[str, str]:
    """The environment from which codexd resolves ``config`` again, from whatever directory."""
    texts = setting_texts(config)
    texts["server_args"] = _arguments_text(config.server.child_args)
    defaults = setting_texts(resolve({"mode": config.server.mode}, {}, cwd="/"))
    wanted = [*_ALWAYS, *(name for name in texts if name not in _ALWAYS)]
    return {
        BY_NAME[name].env[-1]: texts[name]
        for name in wanted
        if name in _ALWAYS or texts[name] != defaults[name]
    }


def _arguments_text(args: list[str]) -> str:
    words = " ".join(args)
    is_plain = words.isprintable() and not words.startswith("[")
    return words if args and is_plain and words.split() == args else json.dumps(args)
