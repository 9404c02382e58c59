"""The clients' side: one hub, joined to the child."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from websockets.frames import CloseCode

from codexd.api.websocket import ClientEnd
from codexd.child.told import PERIOD_S, Report, ServerState
from codexd.contracts import SessionPurpose, SessionRecord
from codexd.hub.approvals import WaitingApproval
from codexd.hub.counts import HubCounts
from codexd.hub.hub import (
    Action,
    CloseClient,
    Emit,
    Hub,
    HubLimits,
    Introduced,
    Keep,
    SessionChanged,
    ToChild,
    ToClient,
)
from codexd.hub.introduction import Capabilities, ClientInfo
from codexd.hub.jsonrpc import INVALID_REQUEST, OVERLOADED
from codexd.hub.profile import ClientProfile
from codexd.hub.threads import ThreadView
from codexd.keeper.appetite import is_idle
from codexd.keeper.kept_threads import KeptThreads
from codexd.keeper.pace import SOON_S, STALL_S
from codexd.link.errors import LinkError, MessageTooLong, NotReading
from codexd.records.records import Records
from codexd.settings import Policy
from codexd.shapes import Decision

logger = logging.getLogger("codexd")

# Nothing went through for so long: it may stay so.
_QUIET_S = 3.0
# What the server says of the account; a method stands at the beginning of a message, and what
# follows may be long.
_ACCOUNT: Final = b'"account/'
_HEAD_BYTES: Final = 64


class HubDriver:
    """Carries out what the hub decides. An :class:`codexd.api.websocket.HubAdapter`.

    ``endpoint`` is the child's, as the records name it. ``on_change()`` is called when turns begin
    or end and when the server comes or goes; ``on_account(data)`` hears what the child says of the
    account as well, ``on_client`` who each client says it is, ``on_approval(approval_id)`` what is
    asked.
    ``soon()`` has :meth:`tick` called soon; ``quiet_period_s`` is how often circusd is told of a
    hub in which nothing goes on.
    """

    def __init__(
        self,
        endpoint: str,
        policy: Policy,
        records: Records,
        on_change: Callable[[], None],
        on_account: Callable[[bytes], None],
        on_client: Callable[[ClientInfo, Capabilities], None],
        on_approval: Callable[[str], None],
        kept: KeptThreads,
        soon: Callable[[], None],
        quiet_period_s: float,
    ) -> None:
        self._soon = soon
        self._quiet_period_s = quiet_period_s
        self._stirred_at = -_QUIET_S
        self._on_client = on_client
        self._on_approval = on_approval
        self._on_change = on_change
        self._on_account = on_account
        self._records = records
        self._hub = Hub(
            limits=HubLimits(
                initialize_timeout_s=policy.hub_initialize_ms / 1000,
                wait_s=policy.hub_wait_ms / 1000,
            ),
            id_prefix=f"hub-{secrets.token_hex(4)}-",
            endpoint=endpoint,
        )
        self._counts = self._hub.counts
        self._order = 0
        self._told: ServerState = "away"
        self._answered_at = monotonic()
        # Asked once in an interval, a server that lives answers within the time-out.
        interval_ms, timeout_ms = policy.health_interval_ms, policy.health_timeout_ms
        self._fresh_s = (interval_ms + timeout_ms) / 1000 + STALL_S
        self._ends: dict[int, ClientEnd] = {}
        self._send: Callable[[bytes], None] | None = None
        self._count = 0
        self._kept = kept
        # Whether anything was done since what is kept was looked at.
        self._is_used = False

    def start(self) -> None:
        """Take over the sessions there are."""
        sessions = list(self._records.state.sessions.values())
        self._do(self._hub.restore(sessions, monotonic(), self._kept.load()))

    def held_up(self, late_s: float) -> None:
        """This process did not run for a while: nobody was asked, so nobody could answer."""
        self._answered_at += late_s

    def tick(self) -> float | None:
        """Time passes; returns in how many seconds it is to be called again, where it is."""
        now = monotonic()
        actions = self._hub.tick(now)
        if actions:
            self._do(actions)
        else:
            self._carry_out_all(actions)
        if self._is_used:
            self._is_used = False
            self._kept.save(self._hub.kept)
        deadline = self._hub.next_tick(now)
        return None if deadline is None else max(deadline - now, SOON_S)

    # -- clients (HubAdapter) ----------------------------------------------------------------

    def opened(self, profile: ClientProfile, end: ClientEnd) -> int:
        """A client has connected."""
        self._count += 1
        self._ends[self._count] = end
        self._do(self._hub.client_opened(self._count, monotonic(), profile))
        return self._count

    def message(self, client: int, data: bytes) -> None:
        """A client has sent a message."""
        self._counts.from_clients += 1
        now = monotonic()
        try:
            self._do(self._hub.client_message(client, data, now), now)
        except Exception:
            # Nobody shall wait for what will not be answered.
            logger.exception("a message of client %d could not be handled", client)
            self._close_client(client, CloseCode.INTERNAL_ERROR, "codexd failed on it")

    def closed(self, client: int) -> None:
        """A client is gone."""
        self._ends.pop(client, None)
        try:
            self._do(self._hub.client_closed(client, monotonic()))
        except Exception:
            logger.exception("the leaving of client %d could not be handled", client)

    def _close_client(self, client: int, code: int, reason: str) -> None:
        end = self._ends.get(client)
        if end is not None:
            end.close(code, reason)

    # -- the child ---------------------------------------------------------------------------

    def child_ready(
        self,
        send: Callable[[bytes], None],
        initialize_result: bytes | None,
        *,
        same_child: bool,
        pid: int | None,
    ) -> None:
        """The handshake with a child is done."""
        self._send = send
        self.answered()
        now = monotonic()
        self._do(
            self._hub.child_ready(initialize_result, now, same_child=same_child, child_pid=pid)
        )

    def introduced(self, send: Callable[[bytes], None], initialize_result: bytes) -> None:
        """A child that waited for it knows with whom it speaks, maybe on another connection."""
        self._send = send
        self._do(self._hub.introduced(initialize_result, monotonic()))

    @property
    def answered_at(self) -> float | None:
        """See :attr:`codexd.hub.hub.Hub.answered_at`."""
        return self._hub.answered_at

    @property
    def is_unused(self) -> bool:
        """See :attr:`codexd.hub.hub.Hub.is_unused`."""
        return self._hub.is_unused

    @property
    def heard_threads(self) -> frozenset[str]:
        """See :attr:`codexd.hub.hub.Hub.heard_threads`."""
        return self._hub.heard_threads

    @property
    def present(self) -> list[Capabilities]:
        """What each client can do that is there."""
        return self._hub.present

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for anything of the child."""
        return is_idle(self.snapshot())

    @property
    def counts(self) -> HubCounts:
        """What has gone through since this plugin started."""
        return self._counts

    def drain(self, order: int, *, holds: bool) -> None:
        """Follow an order of circusd's: hold new turns, for the child is to end, or let them go."""
        self._order = order
        if holds:
            self._hub.drain()
        else:
            self._do(self._hub.undrain(monotonic()))
        self._on_change()

    def answered(self) -> None:
        """The child has answered a health check."""
        self._answered_at = monotonic()

    def child_message(self, data: bytes) -> None:
        """The child has sent a message; one that cannot be handled takes nothing with it."""
        self._answered_at = now = monotonic()
        self._counts.from_server += 1
        try:
            # What it says of others' threads is all that is known of what they have it do.
            if now - self._stirred_at >= _QUIET_S:
                self._stir(now)
            self._stirred_at = now
            if data.find(_ACCOUNT, 0, _HEAD_BYTES) >= 0:
                self._on_account(data)
            self._do(self._hub.child_message(data, now), now)
        except Exception:
            logger.exception("a message of the server could not be handled")

    def child_lost(self, reason: str, unread: list[bytes]) -> None:
        """The child is gone; it has certainly not read ``unread``."""
        self._send = None
        try:
            self._do(self._hub.child_lost(reason, monotonic(), unread))
        except Exception:
            logger.exception("the loss of the server could not be handled")

    def child_ended(self) -> None:
        """The child that was lost has ended as well."""
        try:
            self._do(self._hub.child_ended(monotonic()))
        except Exception:
            logger.exception("the end of the server could not be handled")

    # -- carrying out ------------------------------------------------------------------------

    def _do(self, actions: list[Action], now: float | None = None) -> None:
        if actions:
            self._is_used = True
            now = monotonic() if now is None else now
            if now - self._stirred_at >= _QUIET_S:
                self._stir(now)
            self._stirred_at = now
        try:
            self._carry_out_all(actions)
        finally:
            self._soon()

    def _carry_out_all(self, actions: list[Action]) -> None:
        failure: Exception | None = None
        for action in actions:
            try:
                # Nearly all of them are these.
                if type(action) is ToClient:
                    self._to_client(action.client, action.data)
                elif type(action) is ToChild:
                    self._to_child(action.data)
                else:
                    self._carry_out(action)
            except Exception as error:
                # The others are for others.
                failure = failure or error
        if self._hub.server != self._told:
            self._told = self._hub.server
            self._on_change()
        if failure is not None:
            raise failure

    def _stir(self, now: float) -> None:
        """Something goes on after a while in which nothing did: circusd expects no word yet."""
        self._stirred_at = now
        self._on_change()

    def _carry_out(self, action: Action) -> None:
        match action:
            case Introduced(info, capabilities):
                self._on_client(info, capabilities)
            case Emit():
                self._emit(action)
            case SessionChanged(record):
                self._records.recorder.session(record)
            case CloseClient(client, code, reason):
                self._close_client(client, code, reason)
            case Keep():
                self._kept.save(self._hub.kept)

    def _emit(self, event: Emit) -> None:
        match event:
            case Emit(level, type_, message, detail):
                self._records.recorder.event(level, type_, message, detail)
        if event.type.startswith("turn."):
            self._on_change()
        elif event.type == "approval.requested":
            self._on_approval(event.detail["approvalId"])

    def _to_client(self, client: int, data: bytes) -> None:
        self._counts.to_clients += 1
        end = self._ends.get(client)
        if end is not None:
            end.send(data)

    def _to_child(self, data: bytes) -> None:
        self._counts.to_server += 1
        if self._send is None:
            return
        try:
            self._send(data)
        except MessageTooLong as error:
            self._do(self._hub.not_sent(data, str(error), INVALID_REQUEST))
        except NotReading as error:
            self._do(self._hub.not_sent(data, str(error), OVERLOADED))
        except LinkError as error:
            # The loss of the link is told by the link itself, and the hub answers then.
            logger.warning("%s", error)

    # -- for whoever asks ----------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether a client's request that comes now is answered, as far as anyone can tell."""
        is_fresh = monotonic() - self._answered_at <= self._fresh_s
        return self._records.recorder.child.ready and self._hub.server == "up" and is_fresh

    def report(self, child: int | None) -> Report:
        """What circusd should know, where ``child`` is the pid of the child that is spoken with."""
        hub = self._hub
        is_still = monotonic() - self._stirred_at >= _QUIET_S
        is_quiet = is_still and hub.server == "up" and hub.turns == 0 and not hub.holds_turns
        return Report(
            plugin=os.getpid(),
            child=child,
            server=hub.server,
            turns=hub.turns,
            drain=self._order,
            holds=hub.holds_turns,
            again_s=self._quiet_period_s if is_quiet else PERIOD_S,
        )

    # -- approvals over HTTP -------------------------------------------------------------------

    def approvals(self) -> list[WaitingApproval]:
        """See :meth:`codexd.hub.hub.Hub.approvals`."""
        return self._hub.approvals()

    def approval(self, approval_id: str) -> WaitingApproval:
        """See :meth:`codexd.hub.hub.Hub.approval`."""
        return self._hub.approval(approval_id)

    def decide(self, approval_id: str, decision: Decision) -> None:
        """See :meth:`codexd.hub.hub.Hub.decide`."""
        self._do(self._hub.decide(approval_id, decision, monotonic()))

    def turn_status(self, thread_id: str, turn_id: str) -> str | None:
        """See :meth:`codexd.hub.hub.Hub.turn_status`."""
        return self._hub.turn_status(thread_id, turn_id)

    def session_of(self, thread_id: str) -> str | None:
        """The id of the thread's active session."""
        return self._hub.session_of(thread_id)

    # -- sessions over HTTP --------------------------------------------------------------------

    def view(self, thread_id: str) -> ThreadView | None:
        """See :meth:`codexd.hub.hub.Hub.view`."""
        return self._hub.view(thread_id)

    def register(
        self, thread_id: str, purpose: SessionPurpose, metadata: Mapping[str, str]
    ) -> SessionRecord:
        """See :meth:`codexd.hub.hub.Hub.register`."""
        record, actions = self._hub.register(thread_id, purpose, metadata, monotonic())
        self._do(actions)
        return record

    def close_session(self, thread_id: str) -> None:
        """See :meth:`codexd.hub.hub.Hub.close_session`."""
        self._do(self._hub.close_session(thread_id, monotonic()))

    def snapshot(self) -> dict[str, Any]:
        """Counts, for `status`."""
        return self._hub.snapshot()
