"""Messages of the app-server: JSON-RPC 2.0 without the `jsonrpc` member.

A message is taken apart only as far as the hub must know it; the rest, known or not, stays the
bytes that came.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from codexd.clock import now_ms
from codexd.encoding import UNDECODABLE, decode_json, json_decoder

Fields = dict[str, msgspec.Raw]

_decode_fields = json_decoder(Fields).decode
decode_text = json_decoder(str).decode
_encode = msgspec.json.Encoder().encode

# Codex 0.163 passes over what is nested deeper, without a word (measured).
MAX_DEPTH = 127
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

# What codex 0.163 answers with (measured): it calls everything it cannot use an invalid request.
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
OVERLOADED = -32001
# Free for the implementation (JSON-RPC 2.0, section 5.1); codex has not given it a meaning.
SERVER_RESTARTED = -32050


class Message(msgspec.Struct, eq=False):
    """One message. ``id`` is the raw JSON of the id: clients get back what they sent."""

    data: bytes
    fields: Fields
    method: str | None
    id: bytes | None = None

    def with_id(self, new_id: bytes) -> bytes:
        """The same message under another id."""
        return _encode({**self.fields, "id": msgspec.Raw(new_id)})

    def with_text_id(self, new_id: str) -> bytes:
        """The same message under another id, which is a text."""
        return _encode({**self.fields, "id": new_id})

    def params(self, type_: type[Any]) -> Any:
        """The params as ``type_``; an empty one where they are of another form."""
        return self._part("params", type_)

    def result(self, type_: type[Any]) -> Any:
        """The result as ``type_``; an empty one where it is of another form."""
        return self._part("result", type_)

    def _part(self, name: str, type_: type[Any]) -> Any:
        raw = self.fields.get(name)
        if raw is None:
            return type_()
        try:
            return decode_json(raw, type_)
        except UNDECODABLE:
            return type_()

    def with_params(self, params: dict[str, Any]) -> bytes:
        """The same message with other params."""
        return _encode({**self.fields, "params": params})

    def replace_param(self, name: str, value: Any) -> None:
        """Change one param."""
        params = self.params(Fields)
        params[name] = msgspec.Raw(_encode(value))
        self.fields = {**self.fields, "params": msgspec.Raw(_encode(params))}


def parse(data: bytes) -> Message | None:
    """The message, or None for what is none; the app-server passes over such lines in silence."""
    try:
        fields = _decode_fields(data)
        raw_method = fields.get("method")
        method = None if raw_method is None else decode_text(raw_method)
    except UNDECODABLE:
        return None
    raw_id = fields.get("id")
    if raw_id is None:
        return Message(data, fields, method)
    id_ = bytes(raw_id)
    if id_[:1] != b'"' and not is_id(id_):
        return None
    return Message(data, fields, method, id_)


class _Trace(msgspec.Struct, frozen=True):
    traceparent: str | None = None
    tracestate: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    code: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    message: str


_decode_trace = json_decoder(_Trace | None).decode
_decode_error = json_decoder(_ErrorBody).decode


def why_unheard(request: Message) -> str | None:
    """Why the server would pass over a request without a word; None where it would not.

    Measured on codex 0.163; its client would wait without end.
    """
    if is_too_deep(request.data):
        return f"nested deeper than {MAX_DEPTH} levels"
    trace = request.fields.get("trace")
    return "trace is not what it must be" if trace is not None and not _fits(trace) else None


def _fits(trace: msgspec.Raw) -> bool:
    try:
        _decode_trace(trace)
    except UNDECODABLE:
        return False
    return True


def is_usable_answer(answer: Message) -> bool:
    """Whether the server takes an answer for one; another it passes over, and goes on waiting."""
    if is_too_deep(answer.data):
        return False
    if "result" in answer.fields:
        return True
    try:
        _decode_error(answer.fields.get("error", b""))
    except UNDECODABLE:
        return False
    return True


def is_too_deep(data: bytes) -> bool:
    """Whether a message is nested so deep that the server would not answer it."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for found in _STRUCTURE.finditer(data):
        mark = found.group()
        if mark in (b"{", b"["):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif mark in (b"}", b"]"):
            depth -= 1
    return False


def is_id(raw: bytes) -> bool:
    """Whether this raw JSON can be the id of a request."""
    return raw[:1] == b'"' or raw.lstrip(b"-").isdigit()


def request(id_: str, method: str, params: Any) -> bytes:
    """A request."""
    return _encode({"id": id_, "method": method, "params": params})


def notification(method: str, params: Any) -> bytes:
    """A notification, with the time as codex gives it."""
    emitted = now_ms()
    return _encode({"method": method, "params": params, "emittedAtMs": emitted})


def response(id_: bytes, result: Any) -> bytes:
    """A response; ``id_`` is raw JSON."""
    return _encode({"id": msgspec.Raw(id_), "result": result})


def error(id_: bytes, code: int, message: str, data: Any = None) -> bytes:
    """An error; ``id_`` is raw JSON."""
    body: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return _encode({"error": body, "id": msgspec.Raw(id_)})


def quoted(text: str) -> bytes:
    """A text as raw JSON."""
    return _encode(text)
