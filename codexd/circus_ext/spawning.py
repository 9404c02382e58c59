"""Starting a process without what circus does about a failure.

Circus takes an OSError for something to try again at once, in a loop that holds up all of circusd,
with a line in its log each time. What passes through it is any other exception.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator


class CannotSpawn(Exception):
    """A process could not be started. The text is one line."""


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
        raise CannotSpawn(describe(error)) from error


def describe(error: OSError | ValueError) -> str:
    """One line for a failure."""
    if not isinstance(error, OSError) or error.errno is None:
        return " ".join(str(error).split())
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}"
