"""JSON that is always written, whatever a text holds.

Paths and arguments may hold bytes that are not UTF-8; Python keeps those as lone surrogates,
which JSON cannot carry. They become U+FFFD here: a record is for reading, and must not fail.
"""

from __future__ import annotations

from typing import Any

import msgspec


def encode_json(value: Any) -> bytes:
    """``value`` (records, builtins) as compact JSON in UTF-8."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_readable(msgspec.to_builtins(value)))


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_readable(key): _readable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(entry) for entry in value]
    return value


# What msgspec raises for bytes that are not the JSON that was asked for: it tells apart bad
# UTF-8 and nesting that is too deep.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
