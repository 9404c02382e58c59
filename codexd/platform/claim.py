"""A name that one process of a user holds without a file that somebody could take away.

Linux has sockets in an abstract namespace: the kernel gives the name back with the process, and
tells who holds it. macOS has a directory of each user's that no environment moves; a lock on a
file there does the same, as long as nobody cleans that directory.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import sys
from typing import Final

from codexd.platform.filelock import FileLock
from codexd.platform.process import ProcessId, identify, is_alive

# Linux, unix(7): SO_PEERCRED answers pid, uid, gid; of a listener, those of who called listen.
_UCRED: Final = struct.Struct("=iII")
_BACKLOG: Final = 128
# macOS, confstr(3): _CS_DARWIN_USER_TEMP_DIR, which Python has no name for.
_DARWIN_USER_TEMP_DIR: Final = 65537


class Claim:
    """The claim of this user's on ``subject``, a path; another spelling of it is the same."""

    def __init__(self, subject: str) -> None:
        digest = hashlib.sha256(os.fsencode(os.path.realpath(subject))).hexdigest()[:32]
        self._name = f"codexd-{os.geteuid()}-{digest}"
        self._socket: socket.socket | None = None
        directory = _user_directory()
        path = f"{directory}/{self._name}.lock" if directory else None
        self._file = FileLock(path) if path else None

    def take(self) -> bool:
        """Take the name; False if another process of this user has it.

        Where nobody can have it (another user took the name first, no directory), it counts as
        taken: a claim is a second guard beside a lock, and must keep nobody from the first.
        """
        if sys.platform != "linux":
            return self._file is None or _taken_or_impossible(self._file)
        claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        claimed.setblocking(False)
        try:
            claimed.bind(f"\0{self._name}")
            claimed.listen(_BACKLOG)
        except OSError:
            claimed.close()
            return self.holder() is None
        self._socket = claimed
        return True

    def holder(self) -> ProcessId | None:
        """The process of this user that has the name, if there is one and it lives."""
        if sys.platform != "linux":
            found = self._file.signature() if self._file else None
            return found if is_alive(found) else None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(f"\0{self._name}")
                answer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            except OSError:
                return None
        pid, uid, _ = _UCRED.unpack(answer)
        return identify(pid) if uid == os.geteuid() and pid else None

    def keep(self) -> None:
        """Let go of those who asked, and make what was taken away again; call it every second."""
        while self._socket is not None:
            try:
                self._socket.accept()[0].close()
            except OSError:
                break
        if self._file is not None and sys.platform != "linux":
            _taken_or_impossible(self._file)

    def release(self) -> None:
        """Give the name back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._file is not None:
            self._file.release()


def _taken_or_impossible(file: FileLock) -> bool:
    try:
        return file.acquire(0)
    except OSError:
        return True


def _user_directory() -> str | None:
    if sys.platform == "linux":
        return None
    try:
        return (os.confstr(_DARWIN_USER_TEMP_DIR) or "").rstrip("/") or None
    except (OSError, ValueError):
        return None
