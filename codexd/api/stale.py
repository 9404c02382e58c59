"""Whether a socket's path can be taken: nobody may listen there any more."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import stat
import sys
import time
from typing import Final

import msgspec
import psutil

from codexd.platform.peer import is_nobody, peer_pid

_ANSWER_S: Final = 1.0
# macOS answers ECONNREFUSED for a listener whose backlog is full, too. That passes.
_DOUBT_S: Final = 1.0 if sys.platform == "darwin" else 0.0
_RETRY_S: Final = 0.05
_SHOWN: Final = 60


class SocketInUse(OSError):
    """Another process serves the socket path. The text is one line for the user."""


def clear_path(path: str, *, doubt_s: float = _DOUBT_S) -> None:
    """Take away a socket that nobody serves any more, or a link to such a one; may block.

    ``doubt_s``: for how long a refusal may only mean that the listener is busy.

    Raises:
        SocketInUse: somebody serves it, or it is no socket.
        OSError: it cannot be looked at or taken away.
    """
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except (FileNotFoundError, NotADirectoryError):
        # Nothing, or a link to nothing.
        _unlink(path)
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        _unlink(path)
        return
    if not stat.S_ISSOCK(mode):
        raise SocketInUse(f'"{path}" is in the way: it is no socket.')
    server = _who_answers(target, doubt_s)
    if server is not None:
        then = f" Stop it with {server.stop}; codexd then takes its place." if server.stop else ""
        raise SocketInUse(f'{server.name} serves "{path}".{then}')
    _unlink(path)


class Server(msgspec.Struct, frozen=True):
    """Who serves a socket; ``pid`` is None where the system does not tell."""

    pid: int | None = None
    command: str = ""

    @property
    def name(self) -> str:
        """As the subject of a sentence."""
        facts = [f"pid {self.pid}" if self.pid else "", self.command]
        shown = ", ".join(fact for fact in facts if fact)
        return f"Another process ({shown})" if shown else "Another process"

    @property
    def stop(self) -> str | None:
        """How to end it; None where the system does not tell."""
        if self.pid is None:
            return None
        stop = f"`kill {self.pid}`"
        # The vendor's own daemon, and not `codexd app-server`.
        is_vendors = "app-server" in self.command and "codexd" not in self.command
        return f"`codex app-server daemon stop`, or {stop}" if is_vendors else stop


def find_server(path: str) -> Server | None:
    """Who answers on a Unix socket, or at the end of a link to one; changes nothing, may block."""
    try:
        return _who_answers(os.path.realpath(path), 0.0)
    except OSError:
        return None


def _who_answers(path: str, doubt_s: float) -> Server | None:
    deadline = time.monotonic() + doubt_s
    while True:
        try:
            return _connect(path)
        except FileNotFoundError:
            return None
        except ConnectionRefusedError:
            if time.monotonic() >= deadline:
                return None
        time.sleep(_RETRY_S)


def _connect(path: str) -> Server:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(path)
        except OSError as error:
            if is_nobody(error) or error.errno is None:
                # Without a number, the path is too long for a socket: nobody can tell.
                raise
            # Full, or slow: somebody is there.
            return Server()
        try:
            pid = peer_pid(probe)
        except OSError:
            return Server()
    return Server(pid, _command(pid))


def _command(pid: int) -> str:
    with contextlib.suppress(psutil.Error, ValueError):
        program, *words = psutil.Process(pid).cmdline()
        # Options may hold a secret.
        names = itertools.takewhile(lambda word: not word.startswith("-"), words)
        text = " ".join([os.path.basename(program), *names])
        if text.isprintable():
            return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return ""


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
