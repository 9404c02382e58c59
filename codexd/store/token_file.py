"""The files with the tokens for the TCP listener: made, read and replaced, never shown."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Mapping
from typing import Final

from codexd.config import Paths
from codexd.platform.files import create_whole, explain, make_private_directory, write_aside
from codexd.user_state import user_state_directory

_TOKEN_BYTES: Final = 32
# Of a user's own making; fewer characters can be guessed.
_SHORTEST: Final = 16
_LONGEST: Final = 4096
_OTHERS: Final = 0o077
_NEW: Final = "`codexd token --rotate` makes a new one"


class BadToken(OSError):
    """A token file that cannot be used. The text is one line that says what to do."""


def default_path(paths: Paths, environ: Mapping[str, str]) -> str:
    """Where the token is if nobody says: in the state directory, unless a clone could bring it."""
    if not paths.state_dir.startswith(paths.repo_root.rstrip("/") + "/"):
        return os.path.join(paths.state_dir, "hub-token")
    digest = hashlib.sha256(os.fsencode(paths.state_dir)).hexdigest()[:16]
    return os.path.join(user_state_directory(environ), "tokens", digest)


def make(path: str) -> None:
    """See that there is a token at ``path``; one that is there stays.

    Raises:
        BadToken: it cannot be made.
    """
    if os.path.lexists(path):
        return
    try:
        make_private_directory(os.path.dirname(path))
        # Whoever else makes one at the same time: the first counts.
        create_whole(path, _new_token())
    except OSError as error:
        raise BadToken(f'No token file can be made at "{path}": {explain(error)}.') from error


def rotate(path: str) -> None:
    """Put a new token in the place of the one at ``path``.

    Raises:
        BadToken: it cannot be written; the old one is there.
    """
    try:
        make_private_directory(os.path.dirname(path))
        write_aside(os.path.realpath(path), _new_token())
    except OSError as error:
        raise BadToken(f'The token file "{path}" cannot be written: {explain(error)}.') from error


def read(path: str) -> bytes:
    """The token at ``path``.

    Raises:
        BadToken: there is none, or others could know it.
    """
    try:
        # Where a user names a file, it may be a link; a pipe is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise BadToken(f'The token file "{path}" is not there: {_NEW}.') from error
    except OSError as error:
        raise BadToken(f'The token file "{path}" cannot be read: {error.strerror}.') from error
    try:
        _check(os.fstat(descriptor), path)
        token = os.read(descriptor, _LONGEST).strip()
    except BadToken:
        raise
    except OSError as error:
        raise BadToken(f'The token file "{path}" cannot be read: {error.strerror}.') from error
    finally:
        os.close(descriptor)
    if len(token) < _SHORTEST or not all(0x21 <= byte <= 0x7E for byte in token):
        raise BadToken(
            f'The token file "{path}" holds no token, which is one word of {_SHORTEST} or more '
            f"characters of ASCII: {_NEW}."
        )
    return token


def _check(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadToken(f'The token file "{path}" is no file: name another.')
    if status.st_uid not in (os.geteuid(), 0):
        raise BadToken(f'The token file "{path}" belongs to another user: name one of your own.')
    if status.st_mode & _OTHERS:
        raise BadToken(
            f'The token file "{path}" can be read or written by others: `chmod 600` it; and as '
            f"they may have it, {_NEW}."
        )


def _new_token() -> bytes:
    return base64.urlsafe_b64encode(os.urandom(_TOKEN_BYTES)).rstrip(b"=") + b"\n"
