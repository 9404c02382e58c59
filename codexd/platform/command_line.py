"""What a process is shown as, by `ps` and to whoever looks for it, where it was never exec'ed.

Linux lets a process say where its command line and environment are (prctl(2), PR_SET_MM_MAP: its
kernel was built with CONFIG_CHECKPOINT_RESTORE, as those of distributions are). All else of that
map stays what it is.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

_PR_SET_NAME: Final = 15
_PR_SET_MM: Final = 35
_PR_SET_MM_MAP: Final = 14
# Fields of /proc/PID/stat (proc(5)) by their number there, as the map names them.
_OF_STAT: Final = {
    "start_code": 26,
    "end_code": 27,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
    "start_stack": 28,
}
_FIRST_AFTER_NAME: Final = 3
_NO_FILE: Final = 0xFFFFFFFF

# The kernel reads it there for as long as the process lives.
_shown: Any = None


class _Map(ctypes.Structure):
    """struct prctl_mm_map."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("start_code", "end_code", "start_data", "end_data")),
        *((name, ctypes.c_uint64) for name in ("start_brk", "brk", "start_stack", "arg_start")),
        *((name, ctypes.c_uint64) for name in ("arg_end", "env_start", "env_end", "auxv")),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


def show_as(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Have this process shown as if it had been started by ``argv`` in ``environ``.

    Returns:
        False where the system does not let it; nothing is changed then.
    """
    global _shown
    if sys.platform != "linux":
        return False
    words = _joined(os.fsencode(word) for word in argv)
    variables = _joined(os.fsencode(f"{name}={value}") for name, value in environ.items())
    buffer = ctypes.create_string_buffer(words + variables)
    begin = ctypes.addressof(buffer)
    middle, end = begin + len(words), begin + len(words) + len(variables)
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        kept = {name: int(fields[at - _FIRST_AFTER_NAME]) for name, at in _OF_STAT.items()}
    except (OSError, LookupError, ValueError):
        return False
    places = {"arg_start": begin, "arg_end": middle, "env_start": middle, "env_end": end}
    if not _set_map(_Map(**kept, **places, exe_fd=_NO_FILE)):
        return False
    _shown = buffer
    name = os.fsencode(os.path.basename(argv[0]))
    ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)
    return True


def _set_map(wanted: _Map) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    heap_ends = ctypes.c_void_p(libc.sbrk(0)).value
    while True:
        # The heap may grow between two lines of this; nobody but the C library moves its end.
        wanted.brk = heap_ends
        size = ctypes.c_ulong(ctypes.sizeof(wanted))
        if libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(wanted), size, 0) != 0:
            return False
        now = ctypes.c_void_p(libc.sbrk(0)).value
        if now == heap_ends:
            return True
        heap_ends = now


def _joined(words: Any) -> bytes:
    return b"".join(word + b"\0" for word in words)
