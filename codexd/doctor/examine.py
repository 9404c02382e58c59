"""All checks, in the order in which they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from codexd.doctor import codex, daemon, listener, places, service
from codexd.doctor.finding import Finding, failed
from codexd.doctor.scene import Scene

Check = Callable[[Scene], Finding]

# codex alone may take half of it to tell its version.
_PATIENCE_S: Final = 30.0

CHECKS: Final[Mapping[str, Check]] = {
    "settings": daemon.settings,
    "codex": codex.binary,
    "config.toml": codex.configuration,
    "login": codex.login,
    "codex-home": codex.home,
    "vendor": codex.vendor,
    "directories": places.directories,
    "modes": places.modes,
    "disk": places.disk,
    "state": places.state_files,
    "runtime": places.runtime_directory,
    "sockets": places.socket_paths,
    "listener": listener.listener,
    "open-files": daemon.open_files,
    "clock": daemon.clock,
    "daemons": daemon.listing,
    "daemon": daemon.daemon,
    "plugin": daemon.plugin,
    "hub": daemon.hub,
    "server": daemon.server,
    "service": service.service,
    "crash": daemon.crash,
}


def examine(scene: Scene, checks: Mapping[str, Check] = CHECKS) -> Iterator[tuple[str, Finding]]:
    """Make every check, one after the other; each with its name."""
    for name, check in checks.items():
        yield name, _make(check, scene)


def _make(check: Check, scene: Scene) -> Finding:
    """Make one, with an end: nobody can be hurried who waits for a disk that has gone away."""
    found: list[Finding] = []
    look = threading.Thread(target=lambda: found.append(_look(check, scene)), daemon=True)
    look.start()
    look.join(_PATIENCE_S)
    if found:
        return found[0]
    return failed(
        f"This check has no end: for {_PATIENCE_S:g} s a disk or a program has not answered.",
        "mount; umount -l the disk that is gone (df hangs at it, too)",
    )


def _look(check: Check, scene: Scene) -> Finding:
    try:
        return check(scene)
    except Exception as error:
        # Where much is wrong, a look may meet what nobody thought of; the others go on.
        what = " ".join(str(error).split())
        return failed(
            f"This check itself failed: {type(error).__name__}{f': {what}' if what else ''}.",
            "tell the developers; the other checks are not affected",
        )
