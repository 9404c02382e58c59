"""Every setting there is: its flag, its environment variables, its default, its meaning.

The command line, the environment, circus.ini, the service files and the reference page are
all made from this one table.
"""

# Without `from __future__ import annotations`: the rows below stand in annotations, and to compile
# each of them again from its text would take every command longer than to read the whole table.

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec

# Any whole number is taken, but what is larger than JSON readers hold counts as this.
LARGEST = 2**53 - 1
# The same for a time: a hundred years, which no clock or timer here minds.
LONGEST_MS = 100 * 365 * 24 * 3600 * 1000
_SHOWN_CHARS = 160
_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


class SettingError(ValueError):
    """A value that cannot be used. The text is one line for the user and names the value."""


class Setting(msgspec.Struct, frozen=True):
    """One setting. ``parse(text, source)`` turns its text into its value."""

    name: str
    env: tuple[str, ...]
    default: Any
    help: str
    parse: Callable[[str, str], Any]
    metavar: str = "TEXT"
    shown_default: str | None = None
    repeated: bool = False

    @property
    def flag(self) -> str:
        """The flag of the command line."""
        stem = "server-arg" if self.name == "server_args" else self.name.replace("_", "-")
        return f"--{stem}"

    def read(self, text: str, source: str) -> Any:
        """The value that ``text`` stands for.

        Raises:
            SettingError: it cannot be used.
        """
        # Neither an environment nor a command line can hold one; an edited file can.
        if "\0" in text:
            raise SettingError(f"Invalid value {quoted(text)} ({source}): it holds a NUL.")
        return self.parse(text, source)

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
            raise SettingError(f"Unsupported {label} {quoted(value)} ({source}): use {expected}.")
        return value

    return parse


def parse_integer(value: str, source: str) -> int:
    """A whole number of at least 0, in the spellings that the reference took (1e2, 0x10, 7.0).

    One above :data:`LARGEST` counts as that.
    """
    number = _integer(value.strip())
    if number is None:
        raise SettingError(f"Invalid integer value {quoted(value)} ({source}): use a whole number.")
    if number < 0:
        raise SettingError(f"Invalid value {quoted(value)} ({source}): use 0 or more.")
    return min(number, LARGEST)


def _positive(value: str, source: str) -> int:
    number = parse_integer(value, source)
    if number == 0:
        raise SettingError(f"Invalid value {quoted(value)} ({source}): use 1 or more.")
    return number


def parse_seconds(value: str, source: str) -> float:
    """A number of seconds of at least 0; one above :data:`LONGEST_MS` counts as that."""
    text = value.strip()
    number = float(text) if re.fullmatch(_DECIMAL, text) else math.nan
    if not math.isfinite(number):
        raise SettingError(f"Invalid value {quoted(value)} ({source}): use a number of seconds.")
    if number < 0:
        raise SettingError(f"Invalid value {quoted(value)} ({source}): use 0 or more.")
    return min(number, LONGEST_MS / 1000)


def _time(parse: Callable[[str, str], int]) -> Callable[[str, str], int]:
    return lambda value, source: min(parse(value, source), LONGEST_MS)


def _integer(text: str) -> int | None:
    if re.fullmatch(r"[+-]?[0-9]+", text):
        # As in the reference, what no floating-point number reaches is none at all.
        if math.isinf(float(text)):
            return None
        size = int(text.lstrip("+-0") or "0")
        return -size if text.startswith("-") else size
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+", text):
        return int(text, 0)
    if not re.fullmatch(_DECIMAL, text):
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
    raise SettingError(f"Invalid value {quoted(value)} ({source}): use true or false.")


def _header_value(value: str, source: str) -> str:
    text = value.strip()
    # codex makes an HTTP header of it.
    if not (text.isascii() and text.isprintable()):
        raise SettingError(f"Invalid value {quoted(value)} ({source}): use printable ASCII.")
    return text


def _listen(value: str, source: str) -> str:
    text = value.strip()
    if not text:
        return ""
    # Only who has a listener pays for it.
    from codexd.address import BadAddress, parse_address

    try:
        return str(parse_address(text))
    except BadAddress as error:
        raise SettingError(
            f"Invalid address {quoted(text)} ({source}): use HOST:PORT, 127.0.0.1:8765 or [::1]:0."
        ) from error


def parse_arguments(value: str, source: str) -> list[str]:
    """The child's arguments: words parted by white space, or a JSON array of strings."""
    text = value.strip()
    if not text.startswith("["):
        return text.split()
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, list) or not all(_can_be_passed(entry) for entry in parsed):
        raise SettingError(
            f"Invalid arguments {quoted(text)} ({source}): "
            "what begins with [ must be a JSON array of strings, without NUL."
        )
    return parsed


def _can_be_passed(entry: object) -> bool:
    """Whether a program can be given this argument."""
    if not isinstance(entry, str) or "\0" in entry:
        return False
    try:
        os.fsencode(entry)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can write and no text can hold.
        return False
    return True


def quoted(text: str) -> str:
    """``text`` in quotes, on one line, cut where it is long: for an error."""
    line = "".join(char if char.isprintable() else _escaped(char) for char in text)
    return f'"{line}"' if len(line) <= _SHOWN_CHARS else f'"{line[:_SHOWN_CHARS]}…"'


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


class _Row(msgspec.Struct, frozen=True):
    """A setting that has the usual flag and variable of its name."""

    default: Any
    help: str
    parse: Callable[[str, str], Any]
    metavar: str
    shown_default: str | None = None

    def named(self, name: str) -> Setting:
        return Setting(
            name,
            _ours(name),
            self.default,
            self.help,
            _time(self.parse) if name.endswith("_ms") else self.parse,
            metavar=self.metavar,
            shown_default=self.shown_default,
        )


def _ours(name: str) -> tuple[str, ...]:
    return (f"BAA_CODEXD_{name.upper()}",)


def _number(default: int, help_: str, *, positive: bool = False) -> _Row:
    return _Row(default, help_, _positive if positive else parse_integer, metavar="INTEGER")


def _path(help_: str, shown_default: str) -> _Row:
    return _Row("", help_, _text, metavar="PATH", shown_default=shown_default)


_PLACES: tuple[Setting, ...] = (
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
    _number(50, "Events kept in recent-events.json.").named("event_cache_size"),
    _number(100, "How long `smoke` and `start --run-once` run.").named("smoke_lifetime_ms"),
    Setting(
        "version",
        _ours("version"),
        None,
        "Version to write into identity.json.",
        _text,
        shown_default="unset",
    ),
)


class Policy(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """How codexd goes about it; times in milliseconds, sizes in bytes.

    A field is a setting, and its row is all that a new one needs.
    """

    health_interval_ms: Annotated[
        int, _number(10_000, "Pause between two health checks.", positive=True)
    ]
    health_timeout_ms: Annotated[
        int, _number(10_000, "How long one health check may take.", positive=True)
    ]
    health_misses: Annotated[
        int, _number(3, "Checks missed in a row that make a child unhealthy.", positive=True)
    ]
    ready_timeout_ms: Annotated[
        int, _number(60_000, "How long a new child may take to be ready.", positive=True)
    ]
    restart: Annotated[
        str,
        _Row(
            None,
            "When a child that ended is started again: always, on-failure or never.",
            _choice("restart policy", "always", "on-failure", "never"),
            metavar="POLICY",
            shown_default="always; on-failure in mode exec",
        ),
    ]
    restart_backoff_ms: Annotated[
        int, _number(500, "First pause of a crash loop; it doubles.", positive=True)
    ]
    restart_backoff_max_ms: Annotated[
        int, _number(30_000, "Longest pause of a crash loop.", positive=True)
    ]
    restart_reset_ms: Annotated[
        int, _number(30_000, "Ready for this long, the pause is forgotten.")
    ]
    restart_limit: Annotated[
        int,
        _number(0, "Give up after so many in a row that were not ready for a second; 0: never."),
    ]
    spare: Annotated[
        bool,
        _Row(
            False,
            "Keep a second server, without a thread, that takes the place of one that dies.",
            _boolean,
            metavar="BOOL",
            shown_default="false",
        ),
    ]
    spare_max_age_ms: Annotated[int, _number(3_600_000, "Replace a spare that is older; 0: never.")]
    stop_timeout_ms: Annotated[
        int, _number(30_000, "How long a child may finish its turns before SIGKILL.")
    ]
    log_max_bytes: Annotated[int, _number(67_108_864, "Size at which a log is rotated; 0: never.")]
    log_backups: Annotated[int, _number(5, "Rotated files kept for each log.")]
    session_keep: Annotated[int, _number(200, "Closed sessions kept in the registry.")]
    session_keep_ms: Annotated[int, _number(604_800_000, "How long a closed session is kept.")]
    child_nofile: Annotated[
        int, _number(65_536, "Open files the child may have; 0: what its starter has.")
    ]
    server_max_memory_mb: Annotated[
        int,
        _number(
            0,
            "Replace the server once it has more resident memory (MiB) and no turn runs; 0: never.",
        ),
    ]
    hub_backlog_bytes: Annotated[
        int, _number(67_108_864, "Unread bytes after which a client is cut off.")
    ]
    hub_initialize_ms: Annotated[int, _number(30_000, "How long a client may take to initialize.")]
    hub_wait_ms: Annotated[
        int, _number(120_000, "How long a request waits for a server that is away.")
    ]
    approval_command: Annotated[
        str,
        _Row(
            "",
            "Shell command that is run for each approval that the server asks for.",
            _text,
            metavar="CMD",
            shown_default="none",
        ),
    ]
    approval_command_timeout_ms: Annotated[
        int, _number(60_000, "How long that command may take.", positive=True)
    ]
    originator: Annotated[
        str,
        _Row(
            "",
            "Name under which the server speaks to the model's API.",
            _header_value,
            metavar="NAME",
            shown_default="the first client's",
        ),
    ]
    hub_default_socket: Annotated[
        bool,
        _Row(
            False,
            "Also listen on the vendor's default control socket: a plain `codex` attaches there.",
            _boolean,
            metavar="BOOL",
            shown_default="false",
        ),
    ]

    hub_listen: Annotated[
        str,
        _Row(
            "",
            "Also serve HTTP and WebSocket on TCP there, to who has the token; port 0: any.",
            _listen,
            metavar="HOST:PORT",
            shown_default="no TCP",
        ),
    ]
    hub_token_file: Annotated[
        str,
        _path(
            "File with the token for TCP; made if it is not there.",
            "hub-token in the state directory; where that is in the repo, a place of the user's",
        ),
    ]
    hub_read_token_file: Annotated[
        str, _path("File with a second token, for reading and metrics only.", "no such token")
    ]
    hub_tls_cert: Annotated[
        str, _path("Certificate (PEM, with its chain) for TLS on TCP.", "no TLS")
    ]
    hub_tls_key: Annotated[str, _path("Private key of --hub-tls-cert (PEM).", "no TLS")]
    hub_allow_plaintext: Annotated[
        bool,
        _Row(
            False,
            "Serve TCP without TLS on an address that other machines reach.",
            _boolean,
            metavar="BOOL",
            shown_default="false",
        ),
    ]


def _policy_settings() -> Iterator[Setting]:
    for name, hint in Policy.__annotations__.items():
        (row,) = hint.__metadata__
        yield row.named(name)


SETTINGS: tuple[Setting, ...] = (*_PLACES, *_policy_settings())

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


class Layer(Protocol):
    """A place that settings are given in."""

    def find(self, setting: Setting) -> tuple[str, str] | None:
        """The text that it has for ``setting`` and where that stands; None where it has none."""
        ...


class Flags(msgspec.Struct, frozen=True):
    """The text of each flag that was given; a tuple of them where one may be given again."""

    given: Mapping[str, str | tuple[str, ...] | None]

    def find(self, setting: Setting) -> tuple[str, str] | None:
        """The flag's text. The repeated one is read with the layer that it is added to."""
        text = self.given.get(setting.name)
        return (text, setting.flag) if isinstance(text, str) and not _is_blank(text) else None

    def added(self, setting: Setting) -> list[str]:
        """The values of a flag that may be given again."""
        return list(self.given.get(setting.name) or ())


class Environment(msgspec.Struct, frozen=True):
    """The environment."""

    environ: Mapping[str, str]

    def find(self, setting: Setting) -> tuple[str, str] | None:
        """The first of the setting's variables that is not blank."""
        for name in setting.env:
            text = self.environ.get(name)
            # As in the reference: a list that is set, even to blanks, replaces the default list.
            if text is not None and (setting.repeated or not _is_blank(text)):
                return text, name
        return None


DEFAULT = "default"


class Value(msgspec.Struct, frozen=True):
    """A setting's value, and the flag, variable or file that it is from."""

    value: Any
    origin: str


def read_setting(setting: Setting, flags: Flags, layers: Sequence[Layer]) -> Value:
    """The value that counts: that of the flag, else of the first layer that has one, else the
    default. A blank text counts as not given.

    Raises:
        SettingError: a text that cannot be used.
    """
    found = next(filter(None, (layer.find(setting) for layer in (flags, *layers))), None)
    value = Value(setting.default, DEFAULT)
    if found is not None:
        text, origin = found
        value = Value(setting.read(text, origin), origin)
    added = flags.added(setting) if setting.repeated else []
    if added:
        # They are added to what is configured; the default is nobody's wish.
        before = [] if found is None else value.value
        origins = [setting.flag] if found is None else [value.origin, setting.flag]
        value = Value([*before, *added], " and ".join(origins))
    return value


def _is_blank(text: str) -> bool:
    return text.strip() == ""
