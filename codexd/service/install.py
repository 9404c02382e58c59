"""Installing and removing: everything is looked at before anything is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Final

from codexd.client.service import closed_directories, find_obstacle, wait_for_service
from codexd.platform.files import explain
from codexd.service.file import ServiceFile
from codexd.service.hands import Hands, ServiceError
from codexd.service.manager import Manager
from codexd.service.seal import read_seal, seal

# launchd starts a job that has just ended only after its ThrottleInterval.
_PATIENCE_S: Final = 20.0

Warn = Callable[[str], None]


def install(
    manager: Manager, text: str, *, home: str, hands: Hands, warn: Warn, force: bool
) -> None:
    """Install the service file ``text``, start the service and wait until it is up.

    Does nothing where it is installed, the same and running. ``warn`` is told what may go wrong;
    ``force`` replaces a file that was edited, of which a copy is kept.

    Raises:
        ServiceError: what is in the way, with nothing changed; or why the service is not up.
    """
    file = ServiceFile(manager.kind, text, home)
    _check(manager, file, warn)
    sealed = seal(text, *manager.comment)
    since = _size(file.error_log)
    is_same = _read(manager.path) == sealed
    if is_same and manager.is_active():
        hands.say(f"{manager.label} is installed and has not changed")
        _wait("it runs as", manager, file, since, hands, warn)
        return
    is_edited = _is_edited(manager.path)
    if is_edited and not force:
        raise ServiceError(
            f"{manager.path} was edited, or not written by codexd: keep what you need of it, and "
            "run this again with --force, which replaces it and keeps a copy."
        )
    if not hands.is_dry:
        manager.need_tool()
    if file.error_log is not None:
        hands.make_directory(os.path.dirname(file.error_log))
    if is_edited:
        hands.keep_copy(manager.path)
    if not is_same:
        hands.write(manager.path, sealed, manager.check_command())
    manager.start(hands)
    _wait("started", manager, file, since, hands, warn)
    advice = manager.advice()
    if advice is not None:
        hands.say(advice)


def uninstall(manager: Manager, hands: Hands) -> None:
    """Stop the service and remove its file; logs and state stay.

    Of a file that was edited a copy is kept. Where it is gone already, what still runs is stopped.

    Raises:
        ServiceError: the manager does not let go of it.
    """
    if _is_edited(manager.path):
        hands.keep_copy(manager.path)
    was_there = os.path.lexists(manager.path) or manager.is_loaded() or manager.pid() is not None
    if not was_there:
        hands.say(f"{manager.label} is not installed")
        return
    manager.remove(hands)
    if not hands.is_dry:
        hands.say(f"{manager.label} is not installed any more")


def _check(manager: Manager, file: ServiceFile, warn: Warn) -> None:
    config = file.config
    if manager.kind == "launchd":
        home = file.environ.get("HOME", "")
        for path in closed_directories(config.paths, config.server.child_cwd, home):
            warn(
                f"warning: macOS may keep launchd jobs out of {path}; the service then ends with "
                "126. Give it Full Disk Access (docs/how-to/install-launchd.md), or move it."
            )
    obstacle = find_obstacle(config, file.environ, manager.pid()) or _find_bad_token(file)
    if obstacle is None and file.program is not None and shutil.which(file.program) is None:
        obstacle = f"{file.program}, which the service is to run, is no executable file."
    if obstacle is not None:
        raise ServiceError(f"{obstacle} Nothing was changed.")
    served = _served_so_far(manager, file)
    if served not in (None, config.paths.state_dir):
        warn(
            f"warning: {manager.label} has served {served} so far; from now on it serves "
            f"{config.paths.state_dir}, and what runs there ends."
        )


def _served_so_far(manager: Manager, file: ServiceFile) -> str | None:
    """The state directory of the service that is installed; None for none that can be told."""
    data = _read(manager.path)
    if data is None:
        return None
    home = file.environ.get("HOME", "")
    try:
        before = ServiceFile(manager.kind, data.decode("utf-8", "surrogateescape"), home)
    except ServiceError:
        return None
    return before.config.paths.state_dir


def _find_bad_token(file: ServiceFile) -> str | None:
    if not file.config.policy.hub_listen:
        return None
    from codexd.api.tcp import check_tokens, token_files

    try:
        check_tokens(token_files(file.config.policy, file.config.paths, file.environ))
    except OSError as error:
        return explain(error)
    return None


def _wait(
    word: str, manager: Manager, file: ServiceFile, since: int, hands: Hands, warn: Warn
) -> None:
    """Wait for the service, and say what became of it."""
    if hands.is_dry:
        return
    reason = wait_for_service(
        file.config, manager.pid, lambda: manager.has_given_up(file, since), _PATIENCE_S
    )
    if reason is not None:
        warn(manager.last_words(file, since) or reason)
        where = manager.where_output_is(file)
        raise ServiceError(f"{manager.name} does not run as it should; {where}")
    hands.say(f"{word} {manager.name}; {manager.where_output_is(file)}")


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceError(f"Cannot read {path}: {error.strerror}.") from error


def _is_edited(path: str) -> bool:
    data = _read(path)
    return data is not None and read_seal(data).is_edited


def _size(path: str | None) -> int:
    try:
        return os.path.getsize(path) if path is not None else 0
    except OSError:
        return 0
