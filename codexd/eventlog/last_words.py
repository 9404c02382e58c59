"""Why a child ended, in its own words: the line of its stderr that says so."""

from __future__ import annotations

import re
from typing import Final

# Of the end of stderr: more than a backtrace of a hundred frames.
TAIL_BYTES: Final = 16 << 10
_MAX_CHARS: Final = 300

# ECMA-48: control sequences (colours), strings such as window titles, and two-byte escapes.
_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]"
)
_TIME: Final = re.compile(
    r"^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?"
)
# What stands around the reason: backtraces of Rust, Python and Node, and the help of clap.
_AROUND: Final = re.compile(
    r"""(?ix) (?:stack\ )?backtrace: | \d+:\s | at\s\S | note:\ | traceback\  | file\ ".*",\ line
    | tip:\  | hint:\  | usage:\  | for\ more\ information, | node\.js\ v\d | [\W_\d]*$"""
)
_PANIC: Final = re.compile(r"thread '.*panicked at ")
_ERROR: Final = re.compile(
    r"(?:fatal|error|panic|[\w.]*(?:Error|Exception))\b(?:\[\w+\])?:\s*\S|thread '.*panicked at ",
    re.IGNORECASE,
)


def last_words(stderr: bytes, *, is_cut: bool = False) -> str | None:
    """The last line of ``stderr`` that says what went wrong, or else the last that says anything.

    On one line of at most 300 characters, without escapes and the time before it. ``is_cut``
    says that the first line may lack its beginning. None where nothing is said.
    """
    lines = stderr.decode("utf-8", "replace").splitlines()
    plain = [_plain(line) for line in (lines[1:] if is_cut else lines)]
    said = [at for at, line in enumerate(plain) if not _AROUND.match(line)]
    if not said:
        return None
    errors = [at for at in said if _ERROR.match(plain[at])]
    chosen = (errors or said)[-1]
    text = plain[chosen]
    if _PANIC.match(text):
        # Rust says where on one line and what on the next.
        text = " ".join([text, *plain[chosen + 1 : chosen + 2]]).strip()
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"


def _plain(line: str) -> str:
    without = _ESCAPES.sub("", line)
    shown = "".join(char if char.isprintable() else " " for char in without)
    return _TIME.sub("", " ".join(shown.split())).strip()
