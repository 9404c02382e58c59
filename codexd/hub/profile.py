"""What a client brings with it that a server of its own would have been started with.

`codexd attach` stands in for `codex app-server` over stdio: a server in the client's working
directory, with the client's `-c` overrides, that nobody else speaks with.
"""

from __future__ import annotations

from typing import Any

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub import methods
from codexd.hub.jsonrpc import Message


class ClientProfile(msgspec.Struct, frozen=True):
    """``cwd`` is where requests without a directory work, ``config`` what threads are opened with
    (by dotted path, as `codex -c` has it), and ``private`` says that the client hears of its own
    threads only. All of it is empty for a client on a socket.
    """

    cwd: str | None = None
    config: dict[str, Any] = {}
    private: bool = False


NOTHING = ClientProfile()

# The header of a WebSocket upgrade that holds a profile, as JSON in ASCII. Whoever takes it says
# so in the same header of the answer: an older daemon would say nothing, and do nothing.
PROFILE_HEADER = "Codexd-Profile"
PROFILE_TAKEN = "taken"


class BadProfile(ValueError):
    """A profile that cannot be understood. The text is for the client."""


def read_profile(text: str | None) -> ClientProfile:
    """The profile in the header's value; the empty one where there is no header.

    Raises:
        BadProfile: it is none.
    """
    if text is None:
        return NOTHING
    try:
        profile = decode_json(text.encode(), ClientProfile)
    except UNDECODABLE as error:
        raise BadProfile(f"Invalid {PROFILE_HEADER}: {error}") from error
    if profile.cwd is not None and not profile.cwd.startswith("/"):
        raise BadProfile(f"Invalid {PROFILE_HEADER}: cwd must be an absolute path.")
    return profile


class _Request(msgspec.Struct):
    cwd: str | None = None
    cwds: list[str] | None = None
    roots: list[str] | None = None
    config: dict[str, Any] | None = None


def fill_in(profile: ClientProfile, message: Message) -> None:
    """Put into a client's request what a server of its own would have known without it.

    What the client itself says wins. Measured on codex 0.163: a relative directory is below that
    of the process; a resume takes the directory and the settings of the thread's own record, not
    those of `-c`; a fork takes the model of `-c`, and the rest from the record.
    """
    if profile is NOTHING or message.method not in methods.TAKES_PROFILE:
        return
    request = message.params(_Request)
    if profile.cwd is not None:
        _fill_directory(profile.cwd, request, message)
    config = _config_for(message.method or "", profile.config)
    if config:
        own = request.config or {}
        base = {key: value for key, value in config.items() if not _is_covered(key, own)}
        message.replace_param("config", {**base, **own})


def _fill_directory(cwd: str, request: _Request, message: Message) -> None:
    method = message.method
    if method in methods.TAKES_CWDS and not request.cwds:
        message.replace_param("cwds", [cwd])
    elif method in methods.TAKES_CWD and not request.cwd:
        message.replace_param("cwd", cwd)
    elif method in methods.TAKES_ROOTS:
        message.replace_param("roots", [_below(cwd, root) for root in request.roots or ()])
    elif request.cwd and not request.cwd.startswith("/"):
        message.replace_param("cwd", _below(cwd, request.cwd))


def _below(cwd: str, path: str) -> str:
    if path.startswith("/"):
        return path
    return cwd if path in ("", ".") else f"{cwd.rstrip('/')}/{path}"


def _config_for(method: str, config: dict[str, Any]) -> dict[str, Any]:
    recorded = methods.RECORDED_SETTINGS.get(method)
    if recorded is None:
        return {}
    return {key: value for key, value in config.items() if key not in recorded}


def _is_covered(key: str, own: dict[str, Any]) -> bool:
    """Whether the client's own config says something of ``key``, or of what it is in."""
    parts = key.split(".")
    return any(".".join(parts[: count + 1]) in own for count in range(len(parts)))
