"""The last line of a service file: a comment that tells whether it was edited, and by which
codexd it was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from codexd import __version__

_SEAL: Final = re.compile(rb"codexd-seal (\d+-\d+)(?: codexd (\S+))?")
_POLYNOMIAL: Final = 0x04C11DB7


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a seal says. ``version`` is None where it was written before seals had one."""

    is_edited: bool
    version: str | None


def seal(text: str, begin: str, end: str) -> bytes:
    """``text`` and its seal, as a comment between ``begin`` and ``end``."""
    body = text.rstrip("\n").encode("utf-8", "surrogateescape") + b"\n"
    line = f"{begin}codexd-seal {_sum(body)} codexd {__version__}{end}\n"
    return body + line.encode()


def read_seal(data: bytes) -> Sealed:
    """What the seal of a file says; one without a seal was edited, or is not ours."""
    body, newline, last = data.rstrip(b"\n").rpartition(b"\n")
    found = _SEAL.search(last)
    if found is None:
        return Sealed(is_edited=True, version=None)
    version = found[2].decode("utf-8", "replace") if found[2] else None
    return Sealed(is_edited=found[1].decode() != _sum(body + newline), version=version)


def _sum(data: bytes) -> str:
    """As cksum(1) prints it (POSIX), which the first installers had at hand."""
    crc, length = 0, len(data)
    for byte in data + length.to_bytes((length.bit_length() + 7) // 8, "little"):
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (_POLYNOMIAL if crc & 0x80000000 else 0)
            crc &= 0xFFFFFFFF
    return f"{crc ^ 0xFFFFFFFF}-{length}"
