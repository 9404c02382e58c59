"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from codexd.doctor import codex, daemon, places, service
from codexd.doctor.finding import Finding, failed
from codexd.doctor.scene import Scene

Check = Callable[[Scene], Finding]

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
    "runtime": places.runtime_directory,
    "sockets": places.socket_paths,
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
    try:
        return check(scene)
    except Exception as error:
        # Where much is wrong, a look may meet what nobody thought of; the others go on.
        what = " ".join(str(error).split())
        return failed(
            f"This check itself failed: {type(error).__name__}{f': {what}' if what else ''}.",
            "tell the developers; the other checks are not affected",
        )
