"""Who is at the other end of a Unix socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Protocol

# macOS, sys/un.h: SOL_LOCAL and LOCAL_PEERCRED; the answer is a struct xucred (sys/ucred.h):
# version, uid, number of groups, groups.
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_LOCAL_PEERPID = 2
_XUCRED = struct.Struct("=IIh2x16I")
# Linux, unix(7): SO_PEERCRED answers pid, uid, gid.
_UCRED = struct.Struct("=iII")
_PID = struct.Struct("=i")


class _Socket(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def peer_uid(connected: _Socket) -> int:
    """The user id of the process that made the connection.

    Raises:
        OSError: the system does not tell.
    """
    if sys.platform == "linux":
        answer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(answer)[1])
    answer = connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
    return int(struct.unpack_from("=II", answer)[1])


def peer_pid(connected: _Socket) -> int:
    """The pid of the process at the other end: of whoever listened, for one that connected.

    Raises:
        OSError: the system does not tell.
    """
    if sys.platform == "linux":
        answer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid = int(_UCRED.unpack(answer)[0])
    else:
        answer = connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, _PID.size)
        pid = int(_PID.unpack(answer)[0])
    if pid <= 0:
        # It is in another pid namespace.
        raise OSError("the process at the other end has no pid here")
    return pid


def is_nobody(error: OSError) -> bool:
    """Whether a connection to a Unix socket failed because nobody listens there.

    Whatever else it fails of, somebody may be there: one that is busy, that takes datagrams, or
    that this user may not speak to.
    """
    return isinstance(error, ConnectionRefusedError | FileNotFoundError)


class ForeignPeer(PermissionError):
    """Another user is at the other end."""


def require_own_peer(connected: _Socket) -> None:
    """See that this user serves the socket, before anything is said to whoever does.

    Raises:
        ForeignPeer: another user does. The text is one line.
        OSError: the system does not tell.
    """
    uid = peer_uid(connected)
    if uid != os.geteuid():
        raise ForeignPeer(errno.EPERM, f"it is served by another user (uid {uid})")
