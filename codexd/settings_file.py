"""codexd.toml: settings by name, and a table ``[repo."/path"]`` for those of one daemon.

Only the user's own file is read, or one that was named. None inside a repository is: a clone must
not decide what codexd runs, listens on or writes.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

import msgspec

from codexd.settings import BY_NAME, Setting, SettingError

CONFIG_FLAG = "--config"
CONFIG_VARIABLE = "BAA_CODEXD_CONFIG"
_REPO = "repo"
_MAX_BYTES = 1 << 20
_PATHS = {"repo_root", "logs_dir", "state_dir", "server_cwd"}


class Table(msgspec.Struct, frozen=True):
    """The settings of one table of a file: a layer between environment and default."""

    where: str
    texts: Mapping[str, str]

    def find(self, setting: Setting) -> tuple[str, str] | None:
        """The text of the setting's key, and the file and key."""
        text = self.texts.get(setting.name)
        if text is None or (text.strip() == "" and not setting.repeated):
            return None
        return text, f"{self.where}: {setting.name}"


class SettingsFile(msgspec.Struct, frozen=True):
    """A file that was read and checked; by itself the layer of its keys at the top."""

    top: Table
    repos: Mapping[str, Table]

    def find(self, setting: Setting) -> tuple[str, str] | None:
        """The text of the setting's key at the top, and the file and key."""
        return self.top.find(setting)

    def of_repo(self, repo_root: str) -> Table:
        """The table of the daemon that serves ``repo_root``, an absolute path."""
        return self.repos.get(repo_root, Table("", {}))


def read_settings_file(named: str | None, environ: Mapping[str, str]) -> SettingsFile | None:
    """The file that ``named`` (a flag) or the environment names, else the user's own.

    Returns None where nothing is named and the user has none.

    Raises:
        SettingError: a file that cannot be used; names it, and the key and the value.
    """
    path, is_named = _path(named, environ)
    if path is None:
        return None
    try:
        text = _read(path)
    # XDG_CONFIG_HOME=/dev/null is how one says that there are no such files.
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(path):
            raise SettingError(f"The settings file {path} is a link that leads nowhere.") from error
        if not is_named:
            return None
        raise SettingError(f"The settings file {path} is not there.") from error
    except OSError as error:
        raise SettingError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    return parse_settings_file(path, text, home=environ.get("HOME", ""))


def settings_path(named: str | None, environ: Mapping[str, str]) -> str | None:
    """Where the settings file is, or would be; None where the environment has no place for it."""
    return _path(named, environ)[0]


def _path(named: str | None, environ: Mapping[str, str]) -> tuple[str | None, bool]:
    for text in (named, environ.get(CONFIG_VARIABLE)):
        if text is not None and text.strip():
            return os.path.abspath(text), True
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return None, False
        base = os.path.join(home, ".config")
    return os.path.join(base, "codexd", "codexd.toml"), False


def _read(path: str) -> bytes:
    # A link is followed, for who keeps such files elsewhere links them: what counts is who can
    # change where it leads, and what is there. Without blocking: what was named may be a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SettingError(f"The settings file {path} is no file.")
        if status.st_uid not in (0, os.getuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingError(
                f"The settings file {path} can be written by others: it decides what codexd runs. "
                f"Make it yours alone (chmod go-w {path})."
            )
        for place in {os.path.dirname(path), os.path.dirname(os.path.realpath(path))}:
            _refuse_open_place(path, place)
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise SettingError(f"The settings file {path} is larger than {_MAX_BYTES} bytes.")
    return data


def _refuse_open_place(path: str, place: str) -> None:
    """See that nobody else can put another file in the place of this one."""
    status = os.stat(place)
    is_open = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if is_open or status.st_uid not in (0, os.getuid()):
        raise SettingError(
            f"The settings file {path} can be replaced by others, who may write to {place}: "
            "keep it where only you may."
        )


def parse_settings_file(path: str, data: bytes, *, home: str) -> SettingsFile:
    """``data`` as the file at ``path``; ``home`` is what a leading ~ in a path stands for.

    Raises:
        SettingError: one line that names file, key and value.
    """
    # Only who has such a file pays for it.
    import tomllib

    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "it is nested too deeply"
        raise SettingError(f"The settings file {path} is no TOML: {reason}") from error
    repos = document.pop(_REPO, {})
    if not isinstance(repos, dict):
        raise SettingError(f'{path}: {_REPO} must be a table: [{_REPO}."/path/of/the/repo"].')
    return SettingsFile(
        top=_table(path, document, home),
        repos=dict(_repo_table(path, repo, entries, home) for repo, entries in repos.items()),
    )


def _repo_table(path: str, repo: str, entries: Any, home: str) -> tuple[str, Table]:
    where = f"{path} [{_REPO}.{json.dumps(repo, ensure_ascii=False)}]"
    if not isinstance(entries, dict):
        raise SettingError(f"{where} must be a table.")
    if "repo_root" in entries:
        raise SettingError(f"{where}: repo_root is the name of the table itself.")
    return _absolute(repo, home, where), _table(where, entries, home)


def _table(where: str, entries: Mapping[str, Any], home: str) -> Table:
    return Table(where, {key: _text(where, key, value, home) for key, value in entries.items()})


def _text(where: str, key: str, value: Any, home: str) -> str:
    setting = BY_NAME.get(key)
    if setting is None:
        # Only who errs pays for it.
        from difflib import get_close_matches

        found = get_close_matches(key, BY_NAME, n=1)
        hint = f" Did you mean {found[0]}?" if found else ""
        raise SettingError(
            f"{where}: unknown key {key!r}. `codexd config --show-origin` lists the keys.{hint}"
        )
    text = _as_text(setting, value)
    if text is None:
        raise SettingError(f"{where}: {key} cannot be {_shown(value)}.")
    if key in _PATHS and text.strip():
        text = _absolute(text, home, f"{where}: {key}")
    if text.strip() or setting.repeated:
        # What is wrong in a file is told also where a flag wins over it.
        setting.read(text, f"{where}: {key}")
    return text


def _as_text(setting: Setting, value: Any) -> str | None:
    if setting.repeated:
        is_list = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        return json.dumps(value) if is_list else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) else None


def _absolute(path: str, home: str, what: str) -> str:
    if path.startswith("~/") and os.path.isabs(home):
        path = os.path.join(home, path[2:])
    if not os.path.isabs(path):
        raise SettingError(f"{what}: {path!r} must be an absolute path, or begin with ~/.")
    return os.path.normpath(path)


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
