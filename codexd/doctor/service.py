"""The service of launchd or systemd, where one is installed."""

from __future__ import annotations

import os
from typing import Final

from codexd import __version__
from codexd.doctor.finding import Finding, failed, ok, warn
from codexd.doctor.scene import Scene
from codexd.service.choose import default_kind, make_manager
from codexd.service.status import ServiceStatus, service_status

_INSTALL: Final = "codexd service install"


def service(scene: Scene) -> Finding:
    """Installed, loaded, running, as codexd wrote it and of this version."""
    home = scene.environ.get("HOME") or os.path.expanduser("~")
    status = service_status(make_manager(default_kind(), home, scene.environ), home)
    if not status.installed:
        if status.reason is not None:
            return failed(f"{status.name}: {status.reason}", "codexd service uninstall")
        return ok("No service is installed: codexd runs where it is started.")
    if status.state_dir not in (None, scene.config.paths.state_dir):
        return ok(f"{status.name} is installed for {status.state_dir}, not for this daemon.")
    return _judge(status)


def _judge(status: ServiceStatus) -> Finding:
    if not status.loaded:
        detail = f"{status.path} is there, and {status.manager} does not start it."
        return failed(detail, _INSTALL)
    if status.reason is not None:
        return failed(f"{status.name}: {status.reason}", "codexd service status; then " + _INSTALL)
    if status.edited:
        detail = f"{status.path} was edited: an upgrade does not reach it."
        return warn(detail, "keep what you need in a drop-in, then: codexd service install --force")
    if not status.current:
        found = status.version or "an older codexd"
        return warn(f"{status.path} was written by {found}; this is {__version__}.", _INSTALL)
    return ok(f"{status.name} runs as pid {status.pid}.")
