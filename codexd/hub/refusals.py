"""What an error answer of the server says besides its text."""

from __future__ import annotations

import msgspec

from codexd.encoding import UNDECODABLE, decode_json
from codexd.hub.jsonrpc import Message


class _ErrorData(msgspec.Struct, frozen=True):
    reason: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """An error, as far as it is read."""

    code: int = 0
    data: _ErrorData | None = None

    @property
    def is_draining(self) -> bool:
        """Whether all that is new is refused, because the server is about to end (codex 0.163)."""
        return self.data is not None and self.data.reason == "serverShuttingDown"


class _Refused(msgspec.Struct, frozen=True):
    error: Refusal = Refusal()


def refusal_of(answer: Message) -> Refusal | None:
    """What an answer says went wrong; None where nothing did."""
    if "result" in answer.fields:
        return None
    try:
        return decode_json(answer.data, _Refused).error
    except UNDECODABLE:
        return Refusal()
