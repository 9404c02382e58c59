"""How an installed service is: its file, its manager, its daemon."""

from __future__ import annotations

import os

import msgspec

from codexd import __version__
from codexd.client.live import look
from codexd.service.file import ServiceFile
from codexd.service.hands import ServiceError
from codexd.service.manager import Manager
from codexd.service.seal import read_seal
from codexd.store.snapshot import read_snapshot


class ServiceStatus(msgspec.Struct, rename="camel", kw_only=True):
    """What is known of the service.

    Attributes:
        installed: Its file is there.
        edited: That is not as codexd wrote it.
        loaded: The manager knows it, and starts it by itself.
        pid: Its process; None where it does not run.
        ready: That is the daemon of its state directory, and its server is ready.
        version: The codexd that wrote the file; None where it does not say.
        current: That is this codexd.
        reason: Why it is not ready, or what is wrong with its file, a sentence; None for nothing.
    """

    manager: str
    name: str
    path: str
    installed: bool = False
    edited: bool = False
    loaded: bool = False
    pid: int | None = None
    ready: bool = False
    version: str | None = None
    current: bool = False
    state_dir: str | None = None
    reason: str | None = None


def service_status(manager: Manager, home: str) -> ServiceStatus:
    """Look at the service. Changes nothing."""
    status = ServiceStatus(manager=manager.kind, name=manager.name, path=manager.path)
    status.loaded, status.pid = manager.is_loaded(), manager.pid()
    try:
        with open(manager.path, "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        if status.loaded or status.pid is not None:
            status.reason = f"{manager.kind} knows it, and its file {manager.path} is gone."
        return status
    except OSError as error:
        status.installed = True
        status.reason = f"{manager.path} cannot be read: {error.strerror}."
        return status
    sealed = read_seal(data)
    status.installed, status.edited = True, sealed.is_edited
    status.version, status.current = sealed.version, sealed.version == __version__
    try:
        file = ServiceFile(manager.kind, data.decode("utf-8", "surrogateescape"), home)
    except ServiceError as error:
        status.reason = str(error)
        return status
    status.state_dir = file.config.paths.state_dir
    _look_at_daemon(status, manager, file)
    return status


def _look_at_daemon(status: ServiceStatus, manager: Manager, file: ServiceFile) -> None:
    live = look(file.config, read_snapshot(file.config).daemon)
    holder = live.details["daemonPid"]
    status.ready = live.up and holder is not None and holder == status.pid
    if status.ready:
        return
    if file.program is not None and not os.access(file.program, os.X_OK):
        status.reason = f"{file.program}, which the service runs, is gone."
    elif status.pid is None and holder is not None:
        status.reason = f"A codexd that is not this service runs there, as pid {holder}."
    elif status.pid is None:
        said = manager.last_words(file, 0)
        status.reason = said or f"{manager.kind} does not run it."
    else:
        child = live.daemon.child
        status.reason = child.last_error or f"Its server is {child.status} and not ready."
