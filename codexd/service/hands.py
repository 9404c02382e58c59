"""What is done to the machine, each step by itself; or, in a dry run, what would be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from codexd.platform.files import write_aside

_LOOK_S: Final = 20.0
_NOT_FOUND: Final = 127


class ServiceError(Exception):
    """The service cannot be installed, removed or brought up. The text is one line."""


def output(*command: str) -> str:
    """What a command prints, for those who only look; nothing where it cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOOK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def succeeds(*command: str) -> bool:
    """Whether a command that only looks says yes by its exit code."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOOK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class Hands:
    """Runs commands, writes and removes files; in a dry run each is only told to ``say``."""

    def __init__(self, say: Callable[[str], None], *, is_dry: bool) -> None:
        self.say = say
        self.is_dry = is_dry

    def run(self, *command: str) -> int:
        """Run it, with its output going where ours goes; the exit code."""
        if self.is_dry:
            self.say(f"would run: {' '.join(command)}")
            return 0
        try:
            return subprocess.run(command, stdin=subprocess.DEVNULL).returncode
        except OSError as error:
            self.say(f"{command[0]} cannot be run: {error.strerror}")
            return _NOT_FOUND

    def make_directory(self, path: str) -> None:
        """Make a directory, and what is missing above it, for this user alone."""
        if os.path.isdir(path):
            return
        if self.is_dry:
            self.say(f"would run: mkdir -p {path}")
            return
        _made(path)

    def write(self, path: str, data: bytes, check: Sequence[str] = ()) -> None:
        """Replace a file in one step; the command ``check FILE`` must like the new one.

        Raises:
            ServiceError: it cannot be written, or is not liked; the old one is as it was.
        """
        if self.is_dry:
            self.say(f"would write: {path}")
            for line in data.decode("utf-8", "replace").splitlines():
                self.say(f"    {line}".rstrip())
            return
        place = _made(os.path.dirname(path))
        target = os.path.join(place, os.path.basename(path))
        try:
            self._check(f"{target}.new", data, check)
            write_aside(target, data)
        except OSError as error:
            raise ServiceError(f"Cannot write {path}: {error.strerror}.") from error
        self.say(f"wrote {path}")

    def _check(self, path: str, data: bytes, command: Sequence[str]) -> None:
        """Have a command look at what is to be written, at ``path``; nothing is left there."""
        if not command:
            return
        write_aside(path, data, flush=False)
        try:
            if self.run(*command, path) != 0:
                raise ServiceError(f"Cannot write {path}: {command[0]} does not like it.")
        finally:
            os.unlink(path)

    def keep_copy(self, path: str) -> None:
        """Copy a file that was edited beside itself.

        Raises:
            ServiceError: it cannot be copied.
        """
        copy = f"{path}.edited-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if self.is_dry:
            self.say(f"would copy: {path} to {copy}")
            return
        try:
            with open(path, "rb") as file:
                data = file.read()
            place = os.path.realpath(os.path.dirname(copy))
            write_aside(os.path.join(place, os.path.basename(copy)), data)
        except OSError as error:
            raise ServiceError(f"Cannot copy {path}: {error.strerror}.") from error
        self.say(f"{path} was edited; it is kept as {copy}")

    def remove(self, path: str) -> None:
        """Remove a file, if it is there.

        Raises:
            ServiceError: it cannot be removed.
        """
        if not os.path.lexists(path):
            return
        if self.is_dry:
            self.say(f"would run: rm -f {path}")
            return
        try:
            os.unlink(path)
        except OSError as error:
            raise ServiceError(f"Cannot remove {path}: {error.strerror}.") from error
        self.say(f"removed {path}")


def _made(path: str) -> str:
    """The directory, made for this user alone where it was not there; its links resolved.

    Who keeps such files elsewhere links the directory.
    """
    umask = os.umask(0o077)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"Cannot make {path}: {error.strerror}.") from error
    finally:
        os.umask(umask)
    return os.path.realpath(path)
