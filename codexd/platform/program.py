"""A program that is asked for a word, and held to little time and little text."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final

_MAX_BYTES: Final = 1 << 16


class NoAnswer(Exception):
    """It has not ended in time."""


def ask(
    command: Sequence[str],
    environ: Mapping[str, str],
    patience_s: float,
    *,
    hears_errors: bool = False,
) -> tuple[int, bytes]:
    """The exit code of a command and the beginning of what it prints; nothing of it is left.

    With ``hears_errors`` that is what it prints on stderr, else on stdout.

    Raises:
        NoAnswer: it has not ended within ``patience_s`` seconds.
        OSError: it cannot be run.
        ValueError: a word of the command has a NUL in it.
    """
    deadline = time.monotonic() + patience_s
    stdout, stderr = subprocess.PIPE, subprocess.DEVNULL
    if hears_errors:
        stdout, stderr = stderr, stdout
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=dict(environ),
        # What it starts ends with it.
        start_new_session=True,
    )
    with process:
        pipe = process.stderr if hears_errors else process.stdout
        assert pipe is not None
        try:
            said = _read(pipe.fileno(), deadline)
            if len(said) >= _MAX_BYTES:
                # It waits for somebody to read the rest.
                process.kill()
            return process.wait(max(deadline - time.monotonic(), 0)), said
        except subprocess.TimeoutExpired as error:
            raise NoAnswer from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _read(descriptor: int, deadline: float) -> bytes:
    said = b""
    while len(said) < _MAX_BYTES:
        left = max(deadline - time.monotonic(), 0)
        if not select.select([descriptor], [], [], left)[0]:
            raise NoAnswer
        piece = os.read(descriptor, _MAX_BYTES)
        if not piece:
            break
        said += piece
    return said
