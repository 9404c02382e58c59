"""What the server asks its clients, as people see it and answer it (codex 0.163, its schema)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from codexd.hub.jsonrpc import Message
from codexd.shapes import Decision

# Decisions that every kind of approval has a meaning for.
ACCEPT: Final = "accept"
ACCEPT_FOR_SESSION: Final = "acceptForSession"
DECLINE: Final = "decline"
CANCEL: Final = "cancel"
DECISIONS: Final = (ACCEPT, ACCEPT_FOR_SESSION, DECLINE, CANCEL)

Params = dict[str, Any]


class BadDecision(ValueError):
    """A decision that this kind of request does not take. The text is for whoever decides."""


class UnknownApproval(LookupError):
    """There is no such request."""


class AlreadyDecided(Exception):
    """It was answered meanwhile, or is not asked any more. The text says which."""


@dataclass(frozen=True, slots=True)
class WaitingApproval:
    """A request that waits for an answer. ``summary`` has what one must see to decide.

    ``decisions`` are the words that it takes; every kind also takes an object of its own.
    """

    approval_id: str
    kind: str
    thread_id: str | None
    turn_id: str | None
    item_id: str | None
    since: str
    summary: dict[str, Any]
    decisions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """``shown`` are the params that are in the summary; ``answer`` makes the result of a word.

    ``members`` are what a whole answer must have; where there are none, an object stands where the
    words do, as one of codex's decisions that has something with it.
    """

    name: str
    shown: tuple[str, ...]
    answer: Callable[[str, Params], dict[str, Any]]
    decisions: tuple[str, ...] = DECISIONS
    members: tuple[str, ...] = ()

    def result_of(self, decision: Params) -> dict[str, Any]:
        """The answer that an object is.

        Raises:
            BadDecision: it is none. The server would take it for a refusal, and tell nobody.
        """
        if self.members:
            missing = ", ".join(f"`{name}`" for name in self.members if name not in decision)
            if missing:
                raise BadDecision(
                    f"An object that answers a request of kind {self.name} has {missing}."
                )
            return decision
        if len(decision) != 1 or not all(isinstance(value, dict) for value in decision.values()):
            raise BadDecision(
                f"An object that decides a request of kind {self.name} has one member, which is an "
                f"object; else it takes {', '.join(self.decisions)}."
            )
        return {"decision": decision}


def _decided(decision: str, params: Params) -> dict[str, Any]:
    del params
    return {"decision": decision}


_REVIEWED: Final = {
    ACCEPT: "approved",
    ACCEPT_FOR_SESSION: "approved_for_session",
    DECLINE: "denied",
    CANCEL: "abort",
}


def _reviewed(decision: str, params: Params) -> dict[str, Any]:
    del params
    return {"decision": _REVIEWED[decision]}


def _granted(decision: str, params: Params) -> dict[str, Any]:
    if decision in (DECLINE, CANCEL):
        return {"permissions": {}, "scope": "turn"}
    scope = "session" if decision == ACCEPT_FOR_SESSION else "turn"
    return {"permissions": params.get("permissions") or {}, "scope": scope}


def _unanswered(decision: str, params: Params) -> dict[str, Any]:
    del decision, params
    return {"answers": {}}


def _elicited(decision: str, params: Params) -> dict[str, Any]:
    del params
    return {"action": decision, "content": {} if decision == ACCEPT else None}


def _not_called(decision: str, params: Params) -> dict[str, Any]:
    del decision, params
    text = "Nobody was there to do this."
    return {"contentItems": [{"type": "inputText", "text": text}], "success": False}


_REFUSING: Final = (DECLINE, CANCEL)
_KINDS: Final = {
    "item/commandExecution/requestApproval": _Kind(
        "commandExecution", ("command", "cwd", "reason", "networkApprovalContext"), _decided
    ),
    "item/fileChange/requestApproval": _Kind("fileChange", ("reason", "grantRoot"), _decided),
    "item/permissions/requestApproval": _Kind(
        "permissions",
        ("permissions", "cwd", "reason"),
        _granted,
        members=("permissions",),
    ),
    "item/tool/requestUserInput": _Kind(
        "userInput", ("questions",), _unanswered, _REFUSING, ("answers",)
    ),
    "mcpServer/elicitation/request": _Kind(
        "elicitation",
        ("serverName", "message", "mode", "requestedSchema", "url"),
        _elicited,
        (ACCEPT, DECLINE, CANCEL),
        ("action",),
    ),
    "item/tool/call": _Kind(
        "toolCall", ("tool", "arguments"), _not_called, (DECLINE,), ("contentItems", "success")
    ),
    "applyPatchApproval": _Kind("applyPatch", ("fileChanges", "reason", "grantRoot"), _reviewed),
    "execCommandApproval": _Kind("execCommand", ("command", "cwd", "reason"), _reviewed),
}


def kind_of(method: str | None) -> str:
    """What the request is called; the method itself where it is none of those that are known."""
    known = _KINDS.get(method or "")
    return (method or "") if known is None else known.name


def decisions_of(method: str | None) -> tuple[str, ...]:
    """The words that it takes."""
    known = _KINDS.get(method or "")
    return () if known is None else known.decisions


def summary_of(message: Message, files: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What one must see to decide; ``files`` are those that it would change, where it is known."""
    params: Params = message.params(dict[str, Any])
    known = _KINDS.get(message.method or "")
    if known is None:
        return params
    shown = {name: params[name] for name in known.shown if params.get(name) is not None}
    if files is not None:
        shown["files"] = files
    return shown


def result_of(message: Message, decision: Decision) -> dict[str, Any]:
    """The answer to the server.

    Raises:
        BadDecision: this kind does not take it.
    """
    method = message.method or ""
    known = _KINDS.get(method)
    if isinstance(decision, dict):
        return decision if known is None else known.result_of(decision)
    if known is None or decision not in known.decisions:
        words = ", ".join(decisions_of(method)) or "no word"
        raise BadDecision(
            f"A request of kind {kind_of(method)} takes {words}, or an object as codex has it "
            f"for {method}."
        )
    return known.answer(decision, message.params(dict[str, Any]))
