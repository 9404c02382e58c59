"""Starting a process without what circus does about a failure.

Circus takes an OSError for something to try again at once, in a loop that holds up all of circusd,
with a line in its log each time. What passes through it is any other exception.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from typing import Final

from codexd.platform.limits import OUT_OF_FILES

# No disk, files, memory or processes left.
_SHORTAGES: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOMEM,
    errno.EAGAIN,
    *OUT_OF_FILES,
)


class CannotSpawn(Exception):
    """A process could not be started. The text is one line.

    ``is_shortage`` says that the system is short of something, which passes.
    """

    def __init__(self, text: str, *, is_shortage: bool = False) -> None:
        super().__init__(text)
        self.is_shortage = is_shortage


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Raise :class:`CannotSpawn` for whatever keeps a process from starting.

    Raises:
        CannotSpawn: with the reason.
    """
    try:
        yield
    except subprocess.SubprocessError as error:
        # What went wrong between fork and exec, in the words of subprocess.
        raise CannotSpawn(f"the process could not be prepared: {error}") from error
    except (OSError, ValueError) as error:
        is_shortage = isinstance(error, OSError) and error.errno in _SHORTAGES
        raise CannotSpawn(describe(error), is_shortage=is_shortage) from error


def describe(error: OSError | ValueError) -> str:
    """One line for a failure."""
    if not isinstance(error, OSError) or error.errno is None:
        return " ".join(str(error).split())
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}"
