"""The one place that opens codexd's own files: for this user alone, and never anything else.

A clone of a repository can bring links into the state and logs directories, and anything may be
put in the place of a file. So no link is followed in the last two parts of a path, nothing is
waited for (a named pipe would never end that), and what was opened is looked at: it is a regular
file, or it is not used. What is in the way is renamed to NAME.bad-TIME, and lost is nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022

_OPEN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Follows the name of what was set aside.
_ASIDE: Final = ".bad-"

# Far above ten thousand sessions; what is larger was not written by codexd.
_MAX_BYTES: Final = 256 << 20


class NotAFile(OSError):
    """There is something at the path, and it is no regular file."""


# -- opening -----------------------------------------------------------------------------------


def open_to_read(path: str) -> int:
    """A descriptor of the regular file at ``path``.

    Raises:
        FileNotFoundError: there is nothing.
        NotAFile: there is something else: a link, a directory, a pipe, a device.
        OSError: it cannot be read.
    """
    with _directory_of(path) as (directory, name):
        return _open_regular(directory, name, os.O_RDONLY, path)


def open_private(path: str, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """A descriptor of the regular file at ``path``, which nobody but this user may use.

    A file of this user's that its mode keeps it from is given the right mode.

    Raises:
        NotAFile: as :func:`open_to_read`.
        OSError: it cannot be opened or made.
    """
    with _directory_of(path) as (directory, name):
        try:
            descriptor = _open_regular(directory, name, flags, path)
        except PermissionError as error:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            is_mode = error.errno == errno.EACCES and stat.S_ISREG(status.st_mode)
            if not is_mode or status.st_uid != os.geteuid():
                raise
            os.chmod(name, PRIVATE_FILE, dir_fd=directory)
            descriptor = _open_regular(directory, name, flags, path)
    if os.fstat(descriptor).st_mode & _OTHERS:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor


def open_clearing(
    path: str,
    flags: int = os.O_RDWR | os.O_CREAT,
    *,
    if_error: tuple[type[OSError], ...] = (NotAFile,),
) -> int:
    """As :func:`open_private`; what is in the way, as ``if_error`` tells, is set aside first.

    Raises:
        OSError: it cannot be opened or made, or what is in the way not be set aside.
    """
    try:
        return open_private(path, flags)
    except if_error:
        if set_aside(path) is None:
            raise
        return open_private(path, flags)


def create_once(path: str, data: bytes = b"") -> bool:
    """Make a file that holds ``data``, unless there is anything at ``path``; whether it was made.

    Of several that try, one is told so.

    Raises:
        OSError: it cannot be made, and nothing is left of it.
    """
    try:
        descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except (FileExistsError, NotAFile):
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return True


def create_whole(path: str, data: bytes) -> bool:
    """As :func:`create_once`, and whoever finds the file finds all of it.

    Raises:
        OSError: it cannot be made.
    """
    aside = f"{path}.{os.getpid()}.new"
    write_aside(os.path.realpath(aside), data)
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(aside)
    return True


@contextlib.contextmanager
def _directory_of(path: str) -> Iterator[tuple[int, str]]:
    """The directory of ``path``, which may be no link either, and the name in it."""
    parent, name = os.path.split(path)
    try:
        directory = os.open(parent or ".", _DIRECTORY)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from error
    try:
        yield directory, name
    finally:
        os.close(directory)


def _open_regular(directory: int, name: str, flags: int, path: str) -> int:
    # O_TRUNC would empty a file before it was looked at.
    truncates = flags & os.O_TRUNC
    try:
        descriptor = os.open(name, (flags & ~os.O_TRUNC) | _OPEN, PRIVATE_FILE, dir_fd=directory)
    except OSError as error:
        # A link, a directory or a socket to be written, a pipe without a reader, a device.
        if _is_odd(name, directory):
            raise NotAFile(error.errno, "Not a regular file", path) from error
        raise type(error)(error.errno, error.strerror, path) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile(errno.EINVAL, "Not a regular file", path)
        if truncates:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_odd(name: str, directory: int) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return not stat.S_ISREG(status.st_mode)


# -- whole files -------------------------------------------------------------------------------


def read_whole(path: str) -> bytes:
    """All of the regular file at ``path``.

    Raises:
        OSError: as :func:`open_to_read`, or it is larger than any file of ours.
    """
    return _read(open_to_read(path), path)


def read_own(path: str) -> bytes:
    """As :func:`read_whole`; a file that its mode keeps this user from is made readable first."""
    return _read(open_private(path, os.O_RDONLY), path)


def _read(descriptor: int, path: str) -> bytes:
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise NotAFile(errno.EFBIG, "Too large for a file of codexd", path)
    return data


def read_users(path: str, limit: int) -> bytes:
    """Up to ``limit`` bytes of a file that is not codexd's own: a link is followed, for it may be.

    Raises:
        OSError: it cannot be read, or is no file: a pipe, say, which might never have a word.
    """
    descriptor = os.open(path, _OPEN & ~os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile(errno.EINVAL, "Not a regular file", path)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def write_aside(path: str, data: bytes, *, flush: bool = True) -> None:
    """Replace the file at ``path`` by one that holds ``data``: written beside it and renamed.

    A reader sees the old one or the new one and no third; with ``flush``, so does whoever looks
    after a power cut. A directory in the way is set aside.

    Raises:
        OSError: the file is as it was, and nothing is left beside it.
    """
    with _directory_of(path) as (directory, name):
        aside = f".{name}.{os.getpid()}.tmp"
        try:
            _write_new(directory, aside, data, flush=flush)
            _rename(directory, aside, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=directory)
            raise type(error)(error.errno, error.strerror, path) from error
        if flush:
            os.fsync(directory)


def _write_new(directory: int, name: str, data: bytes, *, flush: bool) -> None:
    # Left by a process that had this pid before and was killed.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
    descriptor = os.open(name, flags, PRIVATE_FILE, dir_fd=directory)
    try:
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.write(descriptor, view[done:])
        if flush:
            flush_to_device(descriptor)
    finally:
        os.close(descriptor)


def _rename(directory: int, aside: str, path: str) -> None:
    name = os.path.basename(path)
    try:
        os.replace(aside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        if not isinstance(error, IsADirectoryError) or set_aside(path) is None:
            raise
        os.replace(aside, name, src_dir_fd=directory, dst_dir_fd=directory)


class Stamp(NamedTuple):
    """What tells a file from one that was put in its place, or written to by somebody."""

    inode: int
    size: int
    changed_ns: int


def stamp(path: str) -> Stamp | None:
    """The stamp of the regular file at ``path``; None where there is none that can be seen."""
    try:
        return stamp_of(path)
    except OSError:
        return None


def stamp_of(path: str) -> Stamp | None:
    """The stamp of the regular file at ``path``; None for what is no such file.

    Raises:
        OSError: there is nothing, or it cannot be seen.
    """
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode of what is at ``path``, a link itself included; None where nothing is."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_leftovers(path: str) -> None:
    """Remove what a writer that was killed left beside ``path``; for the one writer to call."""
    directory, name = os.path.split(path)
    with contextlib.suppress(OSError):
        for entry in os.listdir(directory or "."):
            if entry.startswith(f".{name}.") and entry.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, entry))


def flush_to_device(descriptor: int) -> None:
    """fsync(2), and on macOS what it takes there for the device to write, too (fcntl(2)).

    Raises:
        OSError: the data may not be on the device.
    """
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


# -- what is in the way ------------------------------------------------------------------------


def set_aside_odd(path: str, *, is_right: Callable[[int], bool] = stat.S_ISREG) -> str | None:
    """Set aside what is at ``path`` if it is no regular file, or whatever else is right there.

    Returns:
        A sentence about it, or None where nothing was done.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    if is_right(mode):
        return None
    return set_aside_sentence(path, f"was {kind_of(mode)}")


def set_aside_sentence(path: str, what: str) -> str | None:
    """:func:`set_aside`, told in a sentence; None where it cannot be renamed."""
    aside = set_aside(path)
    if aside is None:
        return None
    return f"{os.path.basename(path)} {what}; it is kept as {os.path.basename(aside)}."


def kind_of(mode: int) -> str:
    """What a file mode says that something is, in words."""
    for is_kind, words in (
        (stat.S_ISREG, "a file"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return words
    return "a device"


def is_aside(name: str) -> bool:
    """Whether a file of this name was set aside."""
    return _ASIDE in name


def set_aside(path: str) -> str | None:
    """Rename what is at ``path`` to ``path.bad-YYYYMMDDTHHMMSSZ[-n]``; a link is not followed.

    Returns:
        The new path, or None where it cannot be renamed.
    """
    aside = _free_aside_path(path)
    try:
        os.rename(path, aside)
    except OSError:
        return None
    return aside


def keep_copy_aside(path: str) -> str | None:
    """Give the file at ``path`` a second name as :func:`set_aside` would, and leave it there.

    For a file that is about to be replaced by its repaired self: at no moment is it missing.

    Returns:
        The second path, or None where there can be none.
    """
    aside = _free_aside_path(path)
    try:
        os.link(path, aside, follow_symlinks=False)
    except OSError:
        return set_aside(path)
    return aside


def _free_aside_path(path: str) -> str:
    stem = f"{path}{_ASIDE}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    candidate, number = stem, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = f"{stem}-{number}"
    return candidate


# -- directories -------------------------------------------------------------------------------


def make_private_directory(path: str) -> None:
    """Make ``path`` and what is missing above it, each for this user alone.

    Nothing is made below a link: whether one may be followed is known to whoever made the
    directories first.

    Raises:
        OSError: it cannot be made.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_private_directory(parent)
        if os.path.islink(parent):
            raise OSError(errno.ELOOP, "Not made below a symbolic link", path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE_DIRECTORY)


def make_ours(path: str, *, only_ours: bool = False) -> None:
    """Make the directory ``path``, or give it the mode it should have.

    ``only_ours``: one of another user's is left as it is, also where this user may change it.

    Raises:
        OSError: it cannot be made, or there is something else, a link for example.
    """
    try:
        os.mkdir(path, PRIVATE_DIRECTORY)
    except FileExistsError:
        # Looked at first: a mode is not to be changed through a link.
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            what = f"is {kind_of(status.st_mode)}"
            raise NotADirectoryError(errno.ENOTDIR, what, path) from None
        if only_ours and status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to someone else", path) from None
        if stat.S_IMODE(status.st_mode) != PRIVATE_DIRECTORY:
            _chmod_directory(path)


def _chmod_directory(path: str) -> None:
    try:
        descriptor = os.open(path, _DIRECTORY)
    except PermissionError:
        # Its mode keeps even its owner out, and with that everybody else.
        os.chmod(path, PRIVATE_DIRECTORY)
        return
    try:
        os.fchmod(descriptor, PRIVATE_DIRECTORY)
    finally:
        os.close(descriptor)


def require_private_directory(path: str) -> None:
    """See that nobody but this user (and root) can put anything into ``path``, or another there.

    Raises:
        OSError: somebody can, or it is no directory. The text is one line for the user.
    """
    parent = os.path.dirname(path) or "."
    own, above = os.lstat(path), os.stat(parent)
    if not stat.S_ISDIR(own.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"is {kind_of(own.st_mode)}", path)
    if own.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "belongs to someone else", path)
    if own.st_mode & _OTHERS_WRITE:
        raise PermissionError(errno.EPERM, "is writable by others", path)
    if above.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "belongs to someone else", parent)
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, "is writable by others", parent)


# -- telling of errors -------------------------------------------------------------------------


def explain(error: OSError) -> str:
    """One line: what is wrong with which path, and with which disk where it is the disk."""
    what = error.strerror or str(error)
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if is_of_the_disk(error) and where:
        return f"{what}: the disk at {_mount_point(where)}, for {where}"
    return f"{what}: {where}" if where else what


def is_of_the_disk(error: OSError) -> bool:
    """Whether it is a disk that is full, or takes nothing, and not the path."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _mount_point(path: str) -> str:
    place = os.path.realpath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place
