"""codex's own options, as tools give them to `codex app-server`, for a server that runs already.

codex 0.163 itself heeds only -c, --enable and --disable there and passes over -m, -s, -a and -C
(measured); here these hold as well, for they say what whoever gave them wants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class CannotGive(ValueError):
    """An option that a server that runs already cannot be given. The text is one line."""


@dataclass(slots=True)
class Overrides:
    """``config`` by dotted path, for every thread; ``cwd`` is below the working directory.

    ``features`` are those that --enable and --disable name, ``rest`` is what was no option.
    """

    config: dict[str, Any] = field(default_factory=dict)
    cwd: str = ""
    features: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


# What belongs to the server's process and not to a thread: given with a thread, it would be
# passed over without a word. From codex 0.163's own description of its settings.
_OF_THE_PROCESS = (
    "analytics",
    "chatgpt_base_url",
    "cli_auth_credentials_store",
    "feedback",
    "forced_chatgpt_workspace_id",
    "forced_login_method",
    "log_dir",
    "mcp_oauth_callback_port",
    "mcp_oauth_callback_url",
    "mcp_oauth_credentials_store",
    "otel",
    "sqlite_home",
)
_PASSED_OVER = {
    # Of no consequence for what the server does for its clients.
    "--analytics-default-enabled",
    "--no-alt-screen",
    "--stdio",
}
_WITHOUT_SANDBOX = {"--dangerously-bypass-approvals-and-sandbox", "--yolo"}


def read_overrides(arguments: list[str]) -> Overrides:
    """What codex's options ask for.

    Raises:
        CannotGive: an option that cannot be given, or lacks its value; names it.
    """
    overrides = Overrides()
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            overrides.rest.append(word)
            continue
        name, value = _split(word)
        if name in _PASSED_OVER:
            continue
        if name in _WITHOUT_SANDBOX:
            overrides.config |= {"approval_policy": "never", "sandbox_mode": "danger-full-access"}
            continue
        take = _TAKE.get(name)
        if take is None:
            raise CannotGive(
                f"{name} cannot be given to a server that runs already: "
                "give it to the daemon with --server-arg, or leave it out."
            )
        if value is None:
            if not words:
                raise CannotGive(f"{name} lacks its value.")
            value = words.pop(0)
        take(overrides, value)
    return overrides


def _split(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    # -mMODEL, -c=KEY=VALUE
    name, value = word[:2], word[2:]
    return name, value.removeprefix("=") or None


def _config(overrides: Overrides, text: str) -> None:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise CannotGive(f"-c {text}: it must be key=value.")
    if any(key == name or key.startswith(f"{name}.") for name in _OF_THE_PROCESS):
        raise CannotGive(
            f"-c {key} is of the server's process, which runs already: "
            "give it to the daemon with --server-arg, or leave it out."
        )
    overrides.config[key] = _value(value.strip())


def _value(text: str) -> Any:
    """As codex has it: TOML, or the text itself."""
    import tomllib

    try:
        value = tomllib.loads(f"_ = {text}")["_"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip("\"'")
    return value if isinstance(value, bool | int | float | str | list | dict) else text


def _feature(is_on: bool) -> Callable[[Overrides, str], None]:
    def take(overrides: Overrides, name: str) -> None:
        overrides.config[f"features.{name}"] = is_on
        overrides.features.append(name)

    return take


def _setting(key: str) -> Callable[[Overrides, str], None]:
    def take(overrides: Overrides, value: str) -> None:
        overrides.config[key] = value

    return take


def _directory(overrides: Overrides, path: str) -> None:
    overrides.cwd = path


def _writable(overrides: Overrides, path: str) -> None:
    overrides.config.setdefault("sandbox_workspace_write.writable_roots", []).append(path)


_TAKE: dict[str, Callable[[Overrides, str], None]] = {
    "-c": _config,
    "--config": _config,
    "--enable": _feature(True),
    "--disable": _feature(False),
    "-m": _setting("model"),
    "--model": _setting("model"),
    "-s": _setting("sandbox_mode"),
    "--sandbox": _setting("sandbox_mode"),
    "-a": _setting("approval_policy"),
    "--ask-for-approval": _setting("approval_policy"),
    "-C": _directory,
    "--cd": _directory,
    "--add-dir": _writable,
}
