"""Where a spare listens while the server has the endpoint, and how it comes by the endpoint.

codex makes a link at a unix endpoint; the socket that it leads to is elsewhere, under a name made
from that path, and whoever finds another link there does not start (0.163 and 0.169). So nothing
becomes of the link: the spare's socket is renamed over the dead server's, wherever that is. Every
client that connects to the endpoint then finds the spare, and on disk all is as a killed server
leaves it, with which the next one copes. The same holds for a socket without a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

import msgspec

from codexd.platform.peer import is_nobody

# A server that took the spare's place keeps a lock under the name at which it began to listen.
NAMES = ("spare0.sock", "spare1.sock")


class SocketBeside:
    """The sockets of the spares of one daemon, one after the other, and the endpoint's.

    ``endpoint`` is the path of the server's socket. The spares' are in the runtime directory,
    under names no longer than the hub's.
    """

    def __init__(self, endpoint: str, runtime_dir: str) -> None:
        self._endpoint = endpoint
        self._names = [os.path.join(runtime_dir, name) for name in NAMES]
        # The one at which the present server began to listen is the other.
        self._next = 0
        # Where the endpoint led while a server listened there.
        self._led_to: str | None = None
        self._moved: _Socket | None = None

    @property
    def path(self) -> str:
        """Where the spare that there is, or is to be, listens."""
        return self._names[self._next]

    def prepare(self) -> None:
        """Another spare is about to be started, and a server listens at the endpoint.

        Raises:
            OSError: something is in the way that cannot be removed.
        """
        if os.path.lexists(self._endpoint):
            self._led_to = os.path.realpath(self._endpoint)
        self.clear()

    def clear(self) -> None:
        """No spare listens any more; what one that was killed has left is removed.

        Raises:
            OSError: something else is there.
        """
        socket_path = os.path.realpath(self.path)
        if socket_path != self.path:
            _remove_dead(socket_path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def come_forth(self) -> None:
        """The server is dead: have the spare's socket at the endpoint.

        Raises:
            OSError: it cannot be had there, and is where it was.
        """
        source, target = os.path.realpath(self.path), self._led_to
        if target is None or not stat.S_ISSOCK(os.stat(source).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if os.path.lexists(self._endpoint) and os.path.realpath(self._endpoint) != target:
            raise FileExistsError(errno.EEXIST, "it leads somewhere else by now")
        _refuse_what_is_no_dead_socket(target)
        os.rename(source, target)
        if target != self._endpoint and not os.path.lexists(self._endpoint):
            # Who ends in order takes the link away, too.
            self._lead_to(target, source)
        self._moved = _Socket.at(target)
        with contextlib.suppress(OSError):
            # The link, which leads nowhere now.
            os.unlink(self.path)
        self._next = 1 - self._next

    def _lead_to(self, target: str, source: str) -> None:
        try:
            os.symlink(target, self._endpoint)
        except OSError:
            os.rename(target, source)
            raise

    def server_ended(self) -> None:
        """Who listened at the endpoint is dead; if it was a spare, it has not cleaned up there."""
        moved, self._moved = self._moved, None
        if moved is None or _Socket.at(moved.path) != moved:
            return
        if os.path.islink(self._endpoint) and os.path.realpath(self._endpoint) == moved.path:
            with contextlib.suppress(OSError):
                os.unlink(self._endpoint)
        _remove_dead(moved.path)


class _Socket(msgspec.Struct, frozen=True):
    """One socket, known again by its inode."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> _Socket | None:
        """The one at ``path``; None where there is none."""
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return cls(path, status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _refuse_what_is_no_dead_socket(path: str) -> None:
    """See that what is at ``path``, if anything, may be replaced.

    Raises:
        OSError: it may not.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "something that is no socket is there")
    if _is_listening(path):
        raise OSError(errno.EADDRINUSE, "somebody else listens there")


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError as error:
            return not is_nobody(error)
    return True


def _remove_dead(path: str) -> None:
    """Remove a socket at which nobody listens, and the empty lock file that codex had beside it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode) or _is_listening(path):
            return
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        # It is not known to be dead, or it stays.
        return
    lock = f"{path}.lock"
    with contextlib.suppress(OSError):
        status = os.lstat(lock)
        if stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(lock)
