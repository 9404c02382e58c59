"""Messages of codex's own schema, and what becomes of them when they are bent.

Everything is drawn from the ``random.Random`` that is given, so a seed tells a whole run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

# Few, so that messages meet: they name the same threads, turns and handles.
NAMES = ("t1", "t2", "t3", "u1", "u2", "h1", "", "hub-x-1", "hub-x-1:h1", "hub-x-2:h1", "codexd-1")
_DEPTH = 7
_SAMPLES = 12

Json = Any


class Samples:
    """Valid messages by method, some of each, made once."""

    def __init__(self, schemas: dict[str, dict[str, Any]], rng: random.Random) -> None:
        self.methods = sorted(schemas)
        self._of = {
            method: [
                json.dumps(_Sampler(schema.get("definitions", {}), rng).value(schema))
                for _ in range(_SAMPLES)
            ]
            for method, schema in schemas.items()
        }

    def one(self, rng: random.Random, method: str) -> Json:
        """A fresh copy of a message."""
        return json.loads(rng.choice(self._of[method]))


class _Sampler:
    """Values that a JSON schema (draft 7, as far as codex uses it) allows."""

    def __init__(self, definitions: dict[str, Any], rng: random.Random) -> None:
        self._definitions = definitions
        self._rng = rng

    def value(self, schema: Any, depth: int = 0) -> Json:
        """One value."""
        if not isinstance(schema, dict):
            return None
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self.value(self._definitions[name], depth + 1)
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self.value(self._branch(schema[key], depth), depth + 1)
        if "allOf" in schema:
            return self.value(schema["allOf"][0], depth + 1)
        return self._of_type(schema, depth)

    def _branch(self, branches: list[Any], depth: int) -> Any:
        # Below some depth only what ends.
        ends = [branch for branch in branches if isinstance(branch, dict) and "$ref" not in branch]
        return self._rng.choice(ends or branches) if depth > _DEPTH else self._rng.choice(branches)

    def _of_type(self, schema: dict[str, Any], depth: int) -> Json:
        kind = schema.get("type", "object" if "properties" in schema else "null")
        if isinstance(kind, list):
            kind = "null" if depth > _DEPTH and "null" in kind else self._rng.choice(kind)
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                count = 0 if depth > _DEPTH else self._rng.randrange(3)
                return [self.value(schema.get("items"), depth + 1) for _ in range(count)]
            case "string":
                return self._rng.choice(NAMES)
            case "integer" | "number":
                return self._rng.choice((0, 1, 2, 1700000000))
            case "boolean":
                return self._rng.random() < 0.5
        return None

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Json]:
        required = schema.get("required", ())
        return {
            name: self.value(part, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or (depth <= _DEPTH and self._rng.random() < 0.4)
        }


def junk(rng: random.Random) -> Json:
    """A value that is seldom the right one."""
    return rng.choice(_JUNK)(rng)


def _nested(rng: random.Random) -> Json:
    value: Json = 1
    is_list = rng.random() < 0.5
    for _ in range(rng.choice((2, 100, 126, 130, 400))):
        value = [value] if is_list else {"a": value}
    return value


_JUNK: tuple[Callable[[random.Random], Json], ...] = (
    lambda _: None,
    lambda rng: rng.choice((True, False)),
    lambda rng: rng.choice((0, -1, 2**31, 2**63 - 1, 2**63, -(2**64), 10**40, 10**400)),
    lambda rng: rng.choice((0.5, -0.0, 1e308, 5e-324)),
    lambda rng: "x" * rng.choice((1, 300, 70_000)),
    lambda rng: rng.choice(("\0", "\U0001f600", "é\n\r\t", '"\\', "\u2028", "null")),
    _nested,
    lambda rng: [rng.choice(NAMES)],
    lambda rng: {rng.choice(NAMES): rng.choice(NAMES)},
    lambda _: [],
    lambda _: {},
    lambda rng: rng.choice(NAMES),
)


def _places(value: Json) -> Iterator[tuple[Any, Any]]:
    """Every place in a message that holds something, with what it is in."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(inner):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def bend(rng: random.Random, message: dict[str, Json]) -> dict[str, Json]:
    """Change a place or two: another value, none, another name, or one member more."""
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(message))
        if not places:
            return message
        # The outermost members are where a message is a message: they get half of it.
        top = [place for place in places if place[0] is message]
        holder, key = rng.choice(top if rng.random() < 0.5 else places)
        match rng.randrange(5):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(("id", "method", "params", "threadId", "trace"))] = junk(rng)
            case 2 if isinstance(holder, dict):
                holder[rng.choice(("ID", "x", "result", "error"))] = holder.pop(key)
            case _:
                holder[key] = junk(rng)
    return message


def spoil(rng: random.Random, data: bytes) -> bytes:
    """Change the bytes of a message: cut off, overwritten, doubled, or no JSON any more."""
    at = rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at] + rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00")) + data[at:]
        case 3:
            return data + data
        case 4:
            return b'{"id":%d,' % rng.randrange(9) + data[1:]
        case 5:
            return b"[" + data + b"]"
        case 6:
            return data.replace(b'"t1"', b'"\\ud800"').replace(b":0", b":1e999")
    return b"{" * rng.choice((1, 50, 5000)) + data


def text(message: Json) -> bytes:
    """As JSON, as any client might write it."""
    return json.dumps(message, ensure_ascii=False).encode()
