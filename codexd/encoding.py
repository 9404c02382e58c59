"""JSON that is always written, whatever a text holds, and is read in any thread.

Paths and arguments may hold bytes that are not UTF-8; Python keeps those as lone surrogates,
which JSON cannot carry. They become U+FFFD here: a record is for reading, and must not fail.

msgspec 0.22 learns how a type is made when it is first decoded. A second thread that decodes the
same type meanwhile, or one that holds it, reads what is half learned, and the process dies of
SIGSEGV (measured: within 300 types, each decoded first by four threads at once). So one type is
learned at a time, and before it is used.
"""

from __future__ import annotations

import threading
from typing import Any, Final, TypeVar, overload

import msgspec

_T = TypeVar("_T")

_decoders: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}
_lock: Final = threading.Lock()


@overload
def json_decoder(type_: type[_T]) -> msgspec.json.Decoder[_T]: ...


@overload
def json_decoder(type_: Any) -> msgspec.json.Decoder[Any]: ...


def json_decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    """What decodes JSON of this type; always the same one."""
    found = _decoders.get(type_)
    if found is None:
        with _lock:
            found = _decoders.setdefault(type_, msgspec.json.Decoder(type_))
    return found


@overload
def decode_json(data: bytes | str, type_: type[_T]) -> _T: ...


@overload
def decode_json(data: bytes | str, type_: Any) -> Any: ...


def decode_json(data: bytes | str, type_: Any) -> Any:
    """JSON of this type.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: as in :data:`UNDECODABLE`.
    """
    return json_decoder(type_).decode(data)


@overload
def convert(value: Any, type_: type[_T], *, strict: bool = True) -> _T: ...


@overload
def convert(value: Any, type_: Any, *, strict: bool = True) -> Any: ...


def convert(value: Any, type_: Any, *, strict: bool = True) -> Any:
    """``value``, of builtins, as this type; where not ``strict``, texts may be numbers.

    Raises:
        msgspec.ValidationError: it is not of that type.
    """
    json_decoder(type_)
    return msgspec.convert(value, type_, strict=strict)


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
