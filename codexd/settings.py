"""Every setting there is: its flag, its environment variables, its default, its meaning.

The command line, the environment, circus.ini, the service files and the reference page are
all made from this one table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class SettingError(ValueError):
    """A value that cannot be used. The text is one line for the user and names the value."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``parse(text, source)`` turns its text into its value."""

    name: str
    env: tuple[str, ...]
    default: Any
    help: str
    parse: Callable[[str, str], Any]
    metavar: str = "TEXT"
    shown_default: str | None = None
    repeated: bool = False
    flag: str = field(init=False)

    def __post_init__(self) -> None:
        stem = "server-arg" if self.name == "server_args" else self.name.replace("_", "-")
        object.__setattr__(self, "flag", f"--{stem}")

    @property
    def default_text(self) -> str:
        """The default as help and docs show it."""
        return str(self.default) if self.shown_default is None else self.shown_default


def _text(value: str, _source: str) -> str:
    return value.strip()


def _verbatim(value: str, _source: str) -> str:
    return value


def _choice(label: str, *allowed: str) -> Callable[[str, str], str]:
    def parse(value: str, source: str) -> str:
        if value not in allowed:
            expected = " or ".join(allowed)
            raise SettingError(f'Unsupported {label} "{value}" ({source}): use {expected}.')
        return value

    return parse


def parse_integer(value: str, source: str) -> int:
    """A whole number of at least 0, in the spellings that the reference took (1e2, 0x10, 7.0)."""
    text = value.strip()
    number = _integer(text)
    if number is None:
        raise SettingError(f'Invalid integer value "{value}" ({source}): use a whole number.')
    if number < 0:
        raise SettingError(f'Invalid value "{value}" ({source}): use 0 or more.')
    return number


def _positive(value: str, source: str) -> int:
    number = parse_integer(value, source)
    if number == 0:
        raise SettingError(f'Invalid value "{value}" ({source}): use 1 or more.')
    return number


def _integer(text: str) -> int | None:
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text) if len(text) <= 4000 else None
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+", text):
        return int(text, 0)
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return None
    number = float(text)
    return int(number) if number.is_integer() else None


_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def _boolean(value: str, source: str) -> bool:
    text = value.strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise SettingError(f'Invalid value "{value}" ({source}): use true or false.')


def parse_arguments(value: str, source: str) -> list[str]:
    """The child's arguments: words parted by white space, or a JSON array of strings."""
    text = value.strip()
    if not text.startswith("["):
        return text.split()
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, list) or not all(isinstance(entry, str) for entry in parsed):
        raise SettingError(
            f"Invalid arguments {_shorten(text)} ({source}): "
            "what begins with [ must be a JSON array of strings."
        )
    return parsed


def _shorten(text: str) -> str:
    flat = json.dumps(text, ensure_ascii=False)
    return flat if len(flat) <= 80 else f'{flat[:76]}…"'


def _ours(name: str) -> tuple[str, ...]:
    return (f"BAA_CODEXD_{name.upper()}",)


def _number(
    name: str, default: int, help_: str, *, positive: bool = False, metavar: str = "INTEGER"
) -> Setting:
    parse = _positive if positive else parse_integer
    return Setting(name, _ours(name), default, help_, parse, metavar=metavar)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "repo_root",
        _ours("repo_root"),
        None,
        "Repository that codexd serves; other paths are below it by default.",
        _verbatim,
        metavar="PATH",
        shown_default="the working directory",
    ),
    Setting("node_id", ("BAA_NODE_ID",), "mini-main", "Name of this node in the records.", _text),
    Setting(
        "mode",
        _ours("mode"),
        "app-server",
        "app-server: a child that speaks the protocol; exec: any command, only supervised.",
        _choice("codexd mode", "app-server", "exec"),
        metavar="MODE",
    ),
    Setting(
        "logs_dir",
        ("BAA_CODEXD_LOGS_DIR", "BAA_LOGS_DIR"),
        None,
        "Root of the logs; `codexd/` is added to it.",
        _text,
        metavar="PATH",
        shown_default="REPO/logs",
    ),
    Setting(
        "state_dir",
        ("BAA_CODEXD_STATE_DIR", "BAA_STATE_DIR"),
        None,
        "Root of the state; `codexd/` is added to it.",
        _text,
        metavar="PATH",
        shown_default="REPO/state",
    ),
    Setting(
        "server_endpoint",
        _ours("server_endpoint"),
        "stdio://codex-app-server",
        "Where the app-server is spoken to: stdio://NAME, unix://PATH, unix:// (the vendor's "
        "default control socket) or ws://HOST:PORT.",
        _text,
        metavar="URL",
    ),
    Setting(
        "server_strategy",
        _ours("server_strategy"),
        "spawn",
        "spawn: codexd runs the server; external: it only watches the endpoint.",
        _choice("codexd child strategy", "spawn", "external"),
        metavar="STRATEGY",
    ),
    Setting(
        "server_command",
        _ours("server_command"),
        "codex",
        "Command of the child. `codex` falls back on the binary of the `codex` extra.",
        _text,
        metavar="COMMAND",
    ),
    Setting(
        "server_args",
        _ours("server_args"),
        ["app-server"],
        "One argument of the child; give it again for each. The variable holds words or a JSON "
        "array of strings, and flags are added to it.",
        parse_arguments,
        metavar="ARG",
        shown_default="app-server",
        repeated=True,
    ),
    Setting(
        "server_cwd",
        _ours("server_cwd"),
        None,
        "Working directory of the child.",
        _text,
        metavar="PATH",
        shown_default="the repo root",
    ),
    _number("event_cache_size", 50, "Events kept in recent-events.json."),
    _number("smoke_lifetime_ms", 100, "How long `smoke` and `start --run-once` run."),
    Setting(
        "version",
        _ours("version"),
        None,
        "Version to write into identity.json.",
        _text,
        shown_default="unset",
    ),
    _number("health_interval_ms", 10_000, "Pause between two health checks.", positive=True),
    _number("health_timeout_ms", 10_000, "How long one health check may take.", positive=True),
    _number(
        "health_misses", 3, "Checks missed in a row that make a child unhealthy.", positive=True
    ),
    _number(
        "ready_timeout_ms", 60_000, "How long a new child may take to be ready.", positive=True
    ),
    Setting(
        "restart",
        _ours("restart"),
        None,
        "When a child that ended is started again: always, on-failure or never.",
        _choice("restart policy", "always", "on-failure", "never"),
        metavar="POLICY",
        shown_default="always; on-failure in mode exec",
    ),
    _number("restart_backoff_ms", 500, "First delay of a crash loop; it doubles.", positive=True),
    _number("restart_backoff_max_ms", 30_000, "Longest delay of a crash loop.", positive=True),
    _number("restart_reset_ms", 30_000, "Ready for this long, a child is healthy again."),
    _number("restart_limit", 0, "Give up after so many failures in a row; 0: never."),
    _number("stop_timeout_ms", 30_000, "How long a child may finish its turns before SIGKILL."),
    _number("log_max_bytes", 67_108_864, "Size at which a log is rotated; 0: never."),
    _number("log_backups", 5, "Rotated files kept for each log."),
    _number("session_keep", 200, "Closed sessions kept in the registry."),
    _number("session_keep_ms", 604_800_000, "How long a closed session is kept."),
    _number("child_nofile", 65_536, "Open files the child may have (circus rlimit_nofile)."),
    _number("hub_backlog_bytes", 67_108_864, "Unread bytes after which a client is cut off."),
    _number("hub_initialize_ms", 30_000, "How long a client may take to initialize."),
    _number("hub_wait_ms", 120_000, "How long a request waits for a server that is away."),
    Setting(
        "hub_default_socket",
        _ours("hub_default_socket"),
        False,
        "Also listen on the vendor's default control socket: a plain `codex` attaches there.",
        _boolean,
        metavar="BOOL",
        shown_default="false",
    ),
)

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


def read_settings(
    flags: Mapping[str, str | tuple[str, ...] | None], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The value of every setting, by name.

    ``flags`` holds the text of each flag that was given. Flags win over the environment, the
    environment over the default; a blank text counts as not given.

    Raises:
        SettingError: a text that cannot be used.
    """
    return {
        setting.name: _read_repeated(setting, flags, environ)
        if setting.repeated
        else _read_one(setting, flags, environ)
        for setting in SETTINGS
    }


def _read_one(setting: Setting, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    candidates = [(setting.flag, flags.get(setting.name))]
    candidates += [(name, environ.get(name)) for name in setting.env]
    for source, text in candidates:
        if text is not None and text.strip() != "":
            return setting.parse(text, source)
    return setting.default


def _read_repeated(
    setting: Setting, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> list[str]:
    # As in the reference: a variable that is set, even to blanks, replaces the default list.
    given = list(flags.get(setting.name) or ())
    source = setting.env[0]
    text = environ.get(source)
    if text is not None:
        return [*setting.parse(text, source), *given]
    return given or list(setting.default)
