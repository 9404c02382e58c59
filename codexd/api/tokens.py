"""The tokens that let in who comes over TCP, as their files have them now."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Final

from codexd.api.http import Access
from codexd.store import token_file
from codexd.store.token_file import BadToken

_Stamp = tuple[int, int, int, int, int]
_NEVER_LOOKED: Final[_Stamp] = (-1, -1, -1, -1, -1)


class _File:
    """One token; ``digest`` is None while nobody can be let in by it."""

    def __init__(self, path: str, access: Access) -> None:
        self.path = path
        self.access = access
        self.fault: str | None = None
        self.digest: bytes | None = None
        # That of the last good one: who came in by it stays while the file is in trouble.
        self.known: bytes | None = None
        self._stamp: _Stamp | None = _NEVER_LOOKED

    def changed(self) -> bool:
        """Whether there is something to read that has not been read."""
        stamp = _stamp(self.path)
        is_new, self._stamp = stamp != self._stamp, stamp
        return is_new

    def read(self) -> None:
        try:
            self.digest, self.fault = _digest(token_file.read(self.path)), None
        except BadToken as error:
            self.digest, self.fault = None, str(error)


class Tokens:
    """The token for everything, and one for reading where there is such a file.

    Only digests are kept. ``on_fault(path, fault)`` is told once of each trouble with a file,
    ``on_change(path)`` of a token that takes the place of another.
    """

    def __init__(
        self,
        path: str,
        read_path: str | None,
        *,
        on_fault: Callable[[str, str], None],
        on_change: Callable[[str], None],
    ) -> None:
        self._files = [_File(path, Access.ADMIN)]
        if read_path:
            self._files.append(_File(read_path, Access.READ))
        self._on_fault = on_fault
        self._on_change = on_change
        self.look()

    @property
    def fault(self) -> str | None:
        """What is wrong with a file, in one line."""
        return next((file.fault for file in self._files if file.fault is not None), None)

    @property
    def digest(self) -> bytes | None:
        """That of the token for everything; None while nobody can be let in by it."""
        return self._files[0].digest

    def look(self) -> bool:
        """Read what has changed; whether a token is no longer valid by that."""
        changed = [file for file in self._files if file.changed()]
        return any([self._read(file) for file in changed])

    def _read(self, file: _File) -> bool:
        before = file.fault
        file.read()
        if file.digest is not None and self._is_anothers(file):
            file.digest = None
            file.fault = (
                f'The token files hold the same token, so the one in "{file.path}" lets nobody '
                "in: `codexd token --read --rotate` makes a new one."
            )
        if file.fault is not None and file.fault != before:
            self._on_fault(file.path, file.fault)
        if file.digest is None or file.digest == file.known:
            return False
        is_first, file.known = file.known is None, file.digest
        if not is_first:
            self._on_change(file.path)
        return not is_first

    def _is_anothers(self, file: _File) -> bool:
        """The token for everything stays that; the same for less would be more than it says."""
        return any(
            file.digest == other.digest and other.access > file.access
            for other in self._files
            if other is not file
        )

    def holds(self, digest: bytes) -> bool:
        """Whether who came in by this token may stay."""
        return any(file.known == digest for file in self._files)

    def access(self, token: bytes) -> tuple[Access, bytes]:
        """What a token allows, and its digest. It takes as long for any."""
        given = _digest(token)
        access = Access.OPEN
        for file in self._files:
            # Every one is compared, whichever it is.
            is_it = hmac.compare_digest(given, file.digest or bytes(len(given)))
            if is_it and file.digest is not None:
                access = max(access, file.access)
        return access, given


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        # Also tells of another mode or owner.
        status.st_ctime_ns,
    )
