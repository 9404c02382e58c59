"""State files: replaced whole, so that a reader sees the old one or the new one and no third."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from typing import Any, Final

import msgspec

from codexd.encoding import encode_json
from codexd.platform.files import (
    PRIVATE_FILE,
    flush_directory,
    flush_to_device,
    make_private_directory,
)

# Far above ten thousand sessions; what is larger was not written by codexd.
_MAX_BYTES: Final = 256 << 20


def pretty(value: Any) -> bytes:
    """``value`` as the state files hold it: JSON with two spaces and a newline at the end."""
    return msgspec.json.format(encode_json(value), indent=2) + b"\n"


def write_atomic(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by one that holds ``data``, mode 0600, flushed to the device.

    Raises:
        OSError: the file is as it was, and nothing is left beside it.
    """
    directory, name = os.path.split(path)
    make_private_directory(directory or ".")
    aside = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            with memoryview(data) as view:
                done = 0
                while done < len(view):
                    done += os.write(descriptor, view[done:])
            flush_to_device(descriptor)
        finally:
            os.close(descriptor)
        os.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    flush_directory(directory or ".")


def remove_leftovers(path: str) -> None:
    """Remove what a writer that was killed left beside ``path``; for the one writer to call."""
    directory, name = os.path.split(path)
    for leftover in glob.glob(os.path.join(glob.escape(directory), f".{name}.*.tmp")):
        with contextlib.suppress(OSError):
            os.unlink(leftover)


def read_state_file(path: str) -> bytes:
    """The whole file. One that this user owns but may not read is made readable first.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or is no state file.
    """
    try:
        return read_whole(path)
    except PermissionError:
        os.chmod(path, PRIVATE_FILE)
        return read_whole(path)


def read_whole(path: str) -> bytes:
    """The whole file, as it is.

    Raises:
        OSError: it cannot be read, or is no state file.
    """
    # Not blocking: a named pipe in place of the file must not hold up the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if data is None or len(data) > _MAX_BYTES:
        raise OSError(errno.EFBIG, "Not a state file", path)
    return data
