"""State files: replaced whole, so that a reader sees the old one or the new one and no third."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from codexd.encoding import encode_json
from codexd.platform.files import make_private_directory, write_aside


def pretty(value: Any) -> bytes:
    """``value`` as the state files hold it: JSON with two spaces and a newline at the end."""
    return msgspec.json.format(encode_json(value), indent=2) + b"\n"


def write_atomic(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by one that holds ``data``, mode 0600, flushed to the device.

    Raises:
        OSError: the file is as it was, and nothing is left beside it.
    """
    make_private_directory(os.path.dirname(path) or ".")
    write_aside(path, data)
