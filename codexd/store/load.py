"""Reading a state file whatever is in it."""

from __future__ import annotations

import os
import typing
from typing import Any, TypeVar

import msgspec

from codexd.contracts import Record
from codexd.platform.files import keep_copy_aside, read_own, read_whole, set_aside
from codexd.store.salvage import fields_of, fits, salvage
from codexd.store.torn import whole_objects

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
        raw = read_own(path)
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
        what = "is no JSON" if raw.strip() else "is empty"
        return salvage(_pieces(raw, type(default)), type(default), default, []), [what]
    faults: list[str] = []
    return salvage(document, type(default), default, faults), faults


def _pieces(raw: bytes, type_: type[Record]) -> dict[str, Any]:
    """What is whole in a damaged list of records, as if the rest had never been."""
    for field in fields_of(type_).values():
        if typing.get_origin(field.type) is list:
            entry_type = typing.get_args(field.type)[0]
            return {field.encode_name: [o for o in whole_objects(raw) if fits(o, entry_type)]}
    return {}


def _summary(faults: list[str]) -> str:
    shown = "; ".join(fault[:80] for fault in faults[:3])
    return shown if len(faults) <= 3 else f"{shown}; and {len(faults) - 3} more"


def _sentence(name: str, what: str, aside: str | None) -> str:
    kept = f"it is kept as {os.path.basename(aside)}" if aside else "it could not be kept"
    return f"{name} {what}; {kept}."
