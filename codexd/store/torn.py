"""What is whole in a file that is no JSON any more: cut short, or with a hole in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from codexd.encoding import decode_json

_decoder = json.JSONDecoder()
# Each costs a look through the file. More holes than this were not made by a crash.
_MAX_FAULTS: Final = 100


def whole_objects(raw: bytes) -> Iterator[dict[str, Any]]:
    """Every JSON object in ``raw`` that is whole and in no other whole one, in order."""
    # A byte that is no text keeps its place, and is told by msgspec below.
    text = raw.decode("utf-8", "surrogateescape")
    position, faults = text.find("{"), 0
    while position >= 0 and faults < _MAX_FAULTS:
        try:
            _, end = _decoder.raw_decode(text, position)
            piece = text[position:end].encode("utf-8", "surrogateescape")
            yield decode_json(piece, dict[str, Any])
        except (ValueError, RecursionError):
            end, faults = position + 1, faults + 1
        position = text.find("{", end)
