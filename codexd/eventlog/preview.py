"""The few characters of a burst of output that an event shows."""

from __future__ import annotations

import codecs
import re
from typing import Final

# What a preview is made from: 160 characters of four bytes each, and some white space.
SAMPLE_BYTES: Final = 1024
_MAX_CHARS: Final = 160
_INSIDE_CHARACTER: Final = re.compile(rb"^[\x80-\xbf]{1,3}")


def preview(sample: bytes, *, is_cut: bool) -> str:
    """``sample`` on one line of at most 160 characters; a longer text ends in ``...``.

    The sample may begin or end inside a character, which is then left out. ``is_cut`` says
    that the burst goes on after the sample.
    """
    whole = _INSIDE_CHARACTER.sub(b"", sample)
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(whole)
    flat = " ".join(text.split())
    if len(flat) <= _MAX_CHARS and not is_cut:
        return flat
    return flat[: _MAX_CHARS - 3] + "..."
