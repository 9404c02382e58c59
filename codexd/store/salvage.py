"""Taking every good part out of a damaged record."""

from __future__ import annotations

import functools
import typing
from typing import Any, TypeVar

import msgspec

from codexd.contracts import Record
from codexd.encoding import convert

R = TypeVar("R", bound=Record)


class Unusable(ValueError):
    """A record that lacks what it cannot be without, and nothing to put in its place."""


def salvage(raw: Any, type_: type[R], fallback: R | None, faults: list[str]) -> R:
    """``raw`` (from JSON) as a record of ``type_``.

    Where a field is missing or wrong, ``fallback`` or the field's own default gives it.
    ``faults`` gets a few words for each field that is wrong, unknown, or required and missing.

    Raises:
        Unusable: a required field is not there, and there is no ``fallback``.
    """
    if not isinstance(raw, dict):
        faults.append("is no object")
        raw = {}
    values: dict[str, Any] = {}
    known = fields_of(type_)
    for name, field in known.items():
        base = getattr(fallback, field.name) if fallback is not None else msgspec.UNSET
        value = msgspec.UNSET
        if name in raw:
            value = _field(raw[name], field.type, base, name, faults)
        elif field.required:
            faults.append(f"lacks {name}")
        if value is msgspec.UNSET:
            value = base
        if value is not msgspec.UNSET:
            values[field.name] = value
        elif field.required:
            raise Unusable("cannot be used")
    faults.extend(f"holds an unknown {name}" for name in raw if name not in known)
    return type_(**values)


@functools.cache
def fields_of(type_: type[Record]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a record by the names that files have: their types are found out but once."""
    return {field.encode_name: field for field in msgspec.structs.fields(type_)}


def fits(raw: dict[str, Any], type_: type[Record]) -> bool:
    """Whether ``raw`` has all that a record of ``type_`` cannot be without."""
    try:
        salvage(raw, type_, None, [])
    except Unusable:
        return False
    return True


def _field(raw: Any, type_: Any, base: Any, name: str, faults: list[str]) -> Any:
    """One field's value, or UNSET where there is nothing good in it."""
    inner: list[str] = []
    value: Any = msgspec.UNSET
    if _is_record(type_):
        value = _try_record(raw, type_, base if isinstance(base, Record) else None, inner)
    elif typing.get_origin(type_) is list and _is_record(typing.get_args(type_)[0]):
        value = _records(raw, typing.get_args(type_)[0], inner)
    else:
        try:
            value = convert(raw, type_)
        except (msgspec.ValidationError, RecursionError):
            inner.append("is wrong")
    faults.extend(f"{name} {fault}" for fault in inner)
    return value


def _is_record(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Record)


def _try_record(raw: Any, type_: type[R], fallback: R | None, faults: list[str]) -> Any:
    try:
        return salvage(raw, type_, fallback, faults)
    except Unusable as error:
        faults.append(str(error))
        return msgspec.UNSET


def _records(raw: Any, type_: type[R], faults: list[str]) -> Any:
    if not isinstance(raw, list):
        faults.append("is no list")
        return msgspec.UNSET
    found = []
    for index, entry in enumerate(raw):
        inner: list[str] = []
        record = _try_record(entry, type_, None, inner)
        if record is not msgspec.UNSET:
            found.append(record)
        faults.extend(f"{index} {fault}" for fault in inner)
    return found
