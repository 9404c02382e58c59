"""The routes of approvals: what the server asks, answered by whoever is first."""

from __future__ import annotations

from http import HTTPStatus
from typing import Protocol

import msgspec

from codexd.api.http import Access, Call, Problem
from codexd.api.paging import Limit, page
from codexd.api.table import Nothing, invalid, route
from codexd.hub.approvals import (
    AlreadyDecided,
    BadDecision,
    UnknownApproval,
    WaitingApproval,
)
from codexd.shapes import Approval, ApprovalList, Decision


class Approvals(Protocol):
    """Who knows them: see :class:`codexd.hub.hub.Hub`."""

    def approvals(self) -> list[WaitingApproval]:
        """Those that wait, the oldest first."""

    def approval(self, approval_id: str) -> WaitingApproval:
        """One that waits."""

    def decide(self, approval_id: str, decision: Decision) -> None:
        """Answer it."""

    def session_of(self, thread_id: str) -> str | None:
        """The id of the thread's session."""


class ApprovalQuery(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Which approvals."""

    thread_id: str | None = None
    limit: Limit = 100
    after: str | None = None


class Decided(msgspec.Struct, forbid_unknown_fields=True):
    """A decision: one of the approval's words, or an object as codex has it for its kind."""

    decision: Decision


class Answered(msgspec.Struct, rename="camel"):
    """An approval that was answered by this request."""

    approval_id: str
    decision: Decision


class ApprovalRoutes:
    """``approvals`` knows them."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals

    @route("GET", "/v1/approvals", Access.READ, query=ApprovalQuery, answer=ApprovalList)
    async def list(self, call: Call[ApprovalQuery, None]) -> ApprovalList:
        """List the approvals that wait, the oldest first."""
        query = call.query
        waiting = [
            approval
            for approval in self._approvals.approvals()
            if query.thread_id in (None, approval.thread_id)
        ]
        shown, next_ = page(waiting, lambda entry: entry.approval_id, query.limit, query.after)
        return ApprovalList([self._shown(entry) for entry in shown], next_)

    @route(
        "GET",
        "/v1/approvals/{approvalId}",
        Access.READ,
        answer=Approval,
        problems=(HTTPStatus.NOT_FOUND,),
    )
    async def show(self, call: Call[Nothing, None]) -> Approval:
        """Show one approval that waits."""
        approval_id = call.params["approvalId"]
        try:
            return self._shown(self._approvals.approval(approval_id))
        except AlreadyDecided as error:
            text = f"The approval {approval_id} does not wait any more: {error}."
            raise Problem(HTTPStatus.NOT_FOUND, "approval-not-found", text) from error
        except UnknownApproval as error:
            raise _unknown(approval_id) from error

    @route(
        "POST",
        "/v1/approvals/{approvalId}",
        Access.ADMIN,
        body=Decided,
        answer=Answered,
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    async def decide(self, call: Call[Nothing, Decided]) -> Answered:
        """Answer an approval; the first answer counts."""
        approval_id, decision = call.params["approvalId"], call.body.decision
        try:
            self._approvals.decide(approval_id, decision)
        except BadDecision as error:
            raise invalid(str(error), "decision") from error
        except AlreadyDecided as error:
            text = f"The approval {approval_id} does not wait any more: {error}."
            more = {"reason": str(error)}
            raise Problem(HTTPStatus.CONFLICT, "already-decided", text, more=more) from error
        except UnknownApproval as error:
            raise _unknown(approval_id) from error
        return Answered(approval_id, decision)

    def _shown(self, waiting: WaitingApproval) -> Approval:
        thread_id = waiting.thread_id
        return Approval(
            approval_id=waiting.approval_id,
            kind=waiting.kind,
            thread_id=thread_id,
            session_id=None if thread_id is None else self._approvals.session_of(thread_id),
            turn_id=waiting.turn_id,
            item_id=waiting.item_id,
            since=waiting.since,
            summary=waiting.summary,
            decisions=list(waiting.decisions),
        )


def _unknown(approval_id: str) -> Problem:
    text = f"There is no approval {approval_id}. GET /v1/approvals lists those that wait."
    return Problem(HTTPStatus.NOT_FOUND, "approval-not-found", text)
