"""What a client gets that did not declare `experimentalApi`: refused and left out as codex does.

codex does so for each connection, and codexd has one for all clients. Newer methods and fields
that the tables do not know pass through.
"""

from __future__ import annotations

import msgspec

from codexd.encoding import UNDECODABLE
from codexd.hub.experimental_tables import FIELDS, METHODS
from codexd.hub.jsonrpc import Fields, Message

# Notifications that codex 0.163 does not send to such a client (measured, and its own sources);
# its schema does not tell.
NOTIFICATIONS = frozenset(
    {
        "autoApprovalReview/strictReviewRequired",
        "mcpServer/event/stream/notification",
        "process/exited",
        "process/outputDelta",
        "project/changed",
        "thread/environment/connected",
        "thread/environment/disconnected",
        "thread/prediction/updated",
        "thread/project/updated",
        "thread/queue/changed",
        "thread/readState/changed",
        "thread/realtime/closed",
        "thread/realtime/error",
        "thread/realtime/item/completed",
        "thread/realtime/item/started",
        "thread/realtime/item/transcript/delta",
        "thread/realtime/itemAdded",
        "thread/realtime/outputAudio/delta",
        "thread/realtime/sdp",
        "thread/realtime/started",
        "thread/realtime/transcript/delta",
        "thread/realtime/transcript/done",
        "thread/settings/updated",
        "turn/moderationMetadata",
    }
)

# Members of the server's requests that it takes out for such a client (its own sources).
_STRIPPED = {"item/commandExecution/requestApproval": "additionalPermissions"}

_EMPTY: tuple[object, ...] = (None, False, [], {})


def refusal(message: Message) -> str | None:
    """Why codex would refuse this request of such a client; None where it would not."""
    method = message.method or ""
    what = method if method in METHODS else _field(method, message)
    return None if what is None else f"{what} requires experimentalApi capability"


def stripped(message: Message) -> Message:
    """A request of the server without what such a client does not get."""
    name = _STRIPPED.get(message.method or "")
    params: Fields = message.params(Fields) if name is not None else {}
    if name not in params:
        return message
    del params[name]
    fields = {**message.fields, "params": msgspec.Raw(msgspec.json.encode(params))}
    return Message(msgspec.json.encode(fields), fields, message.method, message.id)


def _field(method: str, message: Message) -> str | None:
    known = FIELDS.get(method)
    if known is None:
        return None
    params: Fields = message.params(Fields)
    for name, counts_empty in known.items():
        if name in params and _is_given(params[name], counts_empty=counts_empty):
            return f"{method}.{name}"
    return None


def _is_given(raw: msgspec.Raw, *, counts_empty: bool) -> bool:
    try:
        value = msgspec.json.decode(raw)
    except UNDECODABLE:
        return False
    return value is not None and (counts_empty or value not in _EMPTY)
