"""Reading a state file whatever is in it."""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec

from codexd.contracts import Record
from codexd.platform.files import keep_copy_aside, set_aside
from codexd.store.files import read_state_file, read_whole
from codexd.store.salvage import salvage

R = TypeVar("R", bound=Record)


def load_tolerant(path: str, default: R) -> tuple[R, str | None]:
    """The record at ``path``, with ``default`` for what is missing or damaged in it.

    A damaged file keeps a copy aside as ``NAME.bad-YYYYMMDDTHHMMSSZ[-n]``, and so does one that
    holds more than this version knows, which the next write would lose.

    Returns:
        The record, and one sentence about what was wrong, or None.
    """
    name = os.path.basename(path)
    try:
        raw = read_state_file(path)
    except FileNotFoundError:
        return default, None
    except OSError as error:
        aside = set_aside(path)
        return default, _sentence(name, f"could not be read: {error.strerror}", aside)
    record, faults = decode(raw, default)
    if not faults:
        return record, None
    return record, _sentence(name, _summary(faults), keep_copy_aside(path))


def peek(path: str, default: R) -> R | None:
    """As :func:`load_tolerant`, but touches nothing; None where there is no such file."""
    try:
        return decode(read_whole(path), default)[0]
    except OSError:
        return None


def decode(raw: bytes, default: R) -> tuple[R, list[str]]:
    """``raw`` as a record like ``default``, and what is wrong with it."""
    try:
        document = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return default, ["is no JSON" if raw.strip() else "is empty"]
    faults: list[str] = []
    return salvage(document, type(default), default, faults), faults


def _summary(faults: list[str]) -> str:
    shown = "; ".join(fault[:80] for fault in faults[:3])
    return shown if len(faults) <= 3 else f"{shown}; and {len(faults) - 3} more"


def _sentence(name: str, what: str, aside: str | None) -> str:
    kept = f"it is kept as {os.path.basename(aside)}" if aside else "it could not be kept"
    return f"{name} {what}; {kept}."
