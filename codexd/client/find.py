"""Which daemon: the one that was named, the one of this directory, or the only one that runs.

What a daemon was told when it was started is its own: its settings, and where its logs are, are
taken from it while it runs, whatever this process was told.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from codexd.client.errors import DaemonError
from codexd.client.ini import read_ini
from codexd.config import Config, absolute, build, path_text, read_values, resolve
from codexd.daemons.homes import repo_of
from codexd.daemons.listing import ListedDaemon, Listing, read_list
from codexd.platform import lock
from codexd.platform.process import ProcessId
from codexd.settings import BY_NAME, DEFAULT, Environment, Flags, Layer, read_setting
from codexd.settings_file import SettingsFile, read_settings_file

_IDENTITY: Final = "identity.json"
_GONE: Final = "The working directory is gone: cd to one that exists."
_LOGS: Final = (
    "logs_root_dir",
    "logs_dir",
    "structured_event_log_path",
    "stdout_log_path",
    "stderr_log_path",
)


class SeveralDaemons(DaemonError):
    """Several daemons run, and nothing says which is meant. The text names each of them."""

    def __init__(self, daemons: list[ListedDaemon], faults: Iterable[str] = ()) -> None:
        named = [f"{flag} (pid {daemon.daemon.pid})" for daemon, flag in flags_of(daemons)]
        text = (
            f"{len(daemons)} daemons run, and nothing says which one is meant: name it with "
            f"{', '.join(named[:-1])} or {named[-1]}, or run this in its repository. "
            "`codexd daemons` shows them."
        )
        super().__init__(" ".join([text, *faults]))
        self.daemons = daemons


def flags_of(daemons: Sequence[ListedDaemon]) -> list[tuple[ListedDaemon, str]]:
    """Each with the flag that names it, as a shell takes it."""
    # A repository that several serve names none of them.
    repos = [daemon.repo_root for daemon in daemons]
    return [(daemon, _flag(daemon, repos.count(daemon.repo_root) == 1)) for daemon in daemons]


def _flag(daemon: ListedDaemon, is_alone: bool) -> str:
    by_repo = is_alone and daemon.state_root == os.path.join(daemon.repo_root, "state")
    import shlex

    flag, path = ("repo-root", daemon.repo_root) if by_repo else ("state-dir", daemon.state_root)
    return f"--{flag} {shlex.quote(path)}"


class NoPlace(DaemonError):
    """The working directory is gone, and nothing else says which daemon is meant."""


class DaemonPlace(msgspec.Struct, frozen=True):
    """Where a daemon is, whether it runs or not.

    Attributes:
        config: Its settings: its own while it runs, else as this process would start it.
        process: The daemon; None where it does not run.
        is_only_one: It was neither named nor is it of this directory, but the only one that runs.
        faults: Sentences about what of the list of daemons could not be read, where that counted.
    """

    config: Config
    process: ProcessId | None
    is_only_one: bool = False
    faults: tuple[str, ...] = ()

    @property
    def repo_root(self) -> str:
        """The repository it serves."""
        return self.config.paths.repo_root

    @property
    def state_dir(self) -> str:
        """Where its state files are."""
        return self.config.paths.state_dir

    @property
    def logs_dir(self) -> str:
        """Where its logs are."""
        return self.config.paths.logs_dir

    @property
    def hub_socket_path(self) -> str:
        """Its codexd.sock."""
        return self.config.runtime.hub_socket_path


def find_daemon(
    *,
    repo_root: str | None = None,
    state_dir: str | None = None,
    logs_dir: str | None = None,
    config_file: str | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> DaemonPlace:
    """Find the daemon as the commands do.

    What is named by an argument or by the environment (BAA_CODEXD_STATE_DIR and so on) counts
    first; else it is the one of the working directory, or of the nearest one above it that has a
    state directory of codexd; else the one daemon of this user that runs. Where none is found, it
    is the working directory's, which does not run.

    Args:
        repo_root: The repository that it serves, as `--repo-root`.
        state_dir: The root of its state directory, as `--state-dir` (`codexd/` is added).
        logs_dir: Where its logs are to be looked for, as `--logs-dir`.
        config_file: The settings file, as `--config`.
        environ: The environment, by default that of this process.
        cwd: The working directory, by default that of this process.

    Raises:
        SeveralDaemons: several run, and nothing says which is meant.
        NoPlace: there is no working directory to start from, and no daemon runs.
        codexd.settings.SettingError: a value that cannot be used.
    """
    environ = os.environ if environ is None else environ
    flags = {"repo_root": repo_root, "state_dir": state_dir, "logs_dir": logs_dir}
    file = read_settings_file(config_file, environ)
    return locate(flags, environ, cwd=working_directory() if cwd is None else cwd, file=file)


def working_directory() -> str | None:
    """The working directory; None where it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


def locate(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    cwd: str | None,
    file: SettingsFile | None,
) -> DaemonPlace:
    """As :func:`find_daemon`, for the flags of all settings. ``cwd`` is None where it is gone."""
    return _Search(flags, environ, cwd, file).run()


class _Search:
    """One search: what was told, and the list of daemons, read once and only where it counts."""

    def __init__(
        self,
        flags: Mapping[str, Any],
        environ: Mapping[str, str],
        cwd: str | None,
        file: SettingsFile | None,
    ) -> None:
        self._flags = flags
        self._environ = environ
        self._cwd = cwd
        self._file = file
        self._listing: Listing | None = None

    def run(self) -> DaemonPlace:
        """The place, with the logs where the caller says that they are."""
        found = self._find()
        named = self._flags.get("logs_dir")
        if not named or not named.strip():
            return found
        # Logs that were moved or copied are read where they are.
        logs = self._told(found.config.paths.repo_root).paths
        told = {name: getattr(logs, name) for name in _LOGS}
        paths = replace(found.config.paths, **told)
        return replace(found, config=replace(found.config, paths=paths))

    def _find(self) -> DaemonPlace:
        if self._is_named("state_dir"):
            return self._of_state_dir()
        if self._is_named("repo_root", *([self._file] if self._file else [])):
            told = self._told()
            repo = told.paths.repo_root
            return self._serving(repo, told) or DaemonPlace(told, None)
        return self._from_anywhere()

    # -- what was told -----------------------------------------------------------------------

    def _is_named(self, name: str, *files: Layer) -> bool:
        layers = [Environment(self._environ), *files]
        value = read_setting(BY_NAME[name], Flags(self._flags), layers)
        if value.origin == DEFAULT:
            return False
        if self._cwd is None and not os.path.isabs(value.value):
            raise NoPlace(_GONE)
        return True

    def _told(self, repo_root: str | None = None) -> Config:
        """The configuration that this process was told, for one repository or that of its own."""
        flags = self._flags
        if repo_root is not None:
            flags = {**flags, "repo_root": path_text(repo_root)}
        cwd = self._cwd or "/"
        return build(read_values(flags, self._environ, cwd=cwd, file=self._file), cwd=cwd)

    def _default_state_dir(self, repo: str) -> str:
        """The state directory of a repository whose daemon is told none otherwise."""
        layers: list[Layer] = [self._file.of_repo(repo), self._file] if self._file else []
        value = read_setting(BY_NAME["state_dir"], Flags({}), layers).value
        return os.path.join(absolute(value or os.path.join(repo, "state"), repo), "codexd")

    # -- ways to find one --------------------------------------------------------------------

    def _of_state_dir(self) -> DaemonPlace:
        told = self._told()
        holder = lock.living_holder(told.runtime.lock_path)
        if holder is not None:
            return self._running(told, holder)
        is_named = self._is_named("repo_root")
        if is_named or told.paths.state_dir == self._default_state_dir(told.paths.repo_root):
            return DaemonPlace(told, None)
        # Where it was at home when it ran.
        repo = repo_of(told.paths.state_dir)
        is_there = repo is not None and os.path.isdir(repo)
        return DaemonPlace(self._told(repo) if is_there else told, None)

    def _from_anywhere(self) -> DaemonPlace:
        # Also where it does not count, what cannot be used is told.
        told = self._told()
        for place in _upwards(self._cwd):
            found = self._at(place)
            if found is not None:
                return found
        # Who names the logs alone means those, whoever runs.
        listing = self._list() if not self._flags.get("logs_dir") else Listing([], [])
        if len(listing.daemons) > 1:
            raise SeveralDaemons(listing.daemons, listing.faults)
        faults = tuple(listing.faults)
        if listing.daemons:
            return replace(self._listed(listing.daemons[0]), is_only_one=True, faults=faults)
        if self._cwd is None:
            raise NoPlace(" ".join([_GONE, *faults]))
        return DaemonPlace(told, None, faults=faults)

    def _at(self, place: str) -> DaemonPlace | None:
        """The daemon of one directory: of its state directory, running or not, or on the list."""
        is_own = place == self._cwd
        is_there = _is_state_dir(self._default_state_dir(place), place, is_own=is_own)
        if not is_there and not is_own:
            return self._listed_for(place)
        # Here it may run though its state directory was taken away.
        told = self._told(place)
        found = self._serving(place, told)
        return found if found is not None or not is_there else DaemonPlace(told, None)

    def _serving(self, repo: str, told: Config) -> DaemonPlace | None:
        """The daemon that runs for a repository: where it would by default, or elsewhere."""
        holder = lock.living_holder(told.runtime.lock_path)
        return self._running(told, holder) if holder is not None else self._listed_for(repo)

    def _listed_for(self, repo: str) -> DaemonPlace | None:
        found = [entry for entry in self._list().daemons if _is_same(entry.repo_root, repo)]
        if len(found) > 1:
            raise SeveralDaemons(found)
        return self._listed(found[0]) if found else None

    def _list(self) -> Listing:
        if self._listing is None:
            self._listing = read_list(self._environ)
        return self._listing

    # -- what it was told itself -------------------------------------------------------------

    def _running(self, told: Config, holder: ProcessId) -> DaemonPlace:
        own = read_ini(told.runtime.circus_ini_path)
        if own is not None and own.paths.state_dir == told.paths.state_dir:
            return DaemonPlace(own, holder)
        # Under a stock circusd the ini may lie anywhere.
        for entry in self._list().daemons:
            is_there = entry.hub_socket_path == told.runtime.hub_socket_path
            if is_there and entry.daemon == holder:
                return self._listed(entry)
        return DaemonPlace(told, holder)

    def _listed(self, entry: ListedDaemon) -> DaemonPlace:
        return DaemonPlace(own_config(entry, self._file), entry.daemon)


def own_config(entry: ListedDaemon, file: SettingsFile | None = None) -> Config:
    """The settings of a daemon of the list; as far as that tells, where its circus.ini is not ours.

    Raises:
        codexd.settings.SettingError: what the list says cannot be used.
    """
    own = read_ini(os.path.join(os.path.dirname(entry.hub_socket_path), "circus.ini"))
    if own is not None and own.runtime.hub_socket_path == entry.hub_socket_path:
        return own
    flags = {
        "repo_root": path_text(entry.repo_root),
        "state_dir": path_text(entry.state_root),
        "logs_dir": path_text(os.path.dirname(entry.logs_dir)),
        "node_id": entry.node_id,
    }
    return resolve(flags, {}, cwd="/", file=file)


def _upwards(directory: str | None) -> Iterator[str]:
    while directory is not None:
        yield directory
        above = os.path.dirname(directory)
        directory = above if above != directory else None


def _is_same(path: str, other: str) -> bool:
    if path == other:
        return True
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _is_state_dir(path: str, place: str, *, is_own: bool) -> bool:
    """Whether there is a state directory of codexd at ``path``, for the directory ``place``.

    A directory `state/codexd` is not yet one: ~/.local has that, too. Below a repository links
    are not followed, as at a start. One of another user's is not for us: only in the working
    directory, ``is_own``, it is told whose it is.
    """
    root = os.path.dirname(path)
    is_below = root.startswith(place.rstrip("/") + "/")
    try:
        above, status = os.lstat(root) if is_below else os.stat(root), os.lstat(path)
        if not (stat.S_ISDIR(above.st_mode) and stat.S_ISDIR(status.st_mode)):
            return False
        if status.st_uid != os.geteuid():
            return is_own
        return stat.S_ISREG(os.lstat(os.path.join(path, _IDENTITY)).st_mode)
    except PermissionError:
        return is_own
    except OSError:
        return False
