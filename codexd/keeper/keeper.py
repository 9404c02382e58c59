"""The heart of the plugin: hears what happens, has it recorded, and talks to the child."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

import msgspec

from codexd.beat import until_beat
from codexd.child import pipes as child_io
from codexd.child import steps as supervision
from codexd.child.steps import Step, Supervision
from codexd.child.told import Report
from codexd.config import Paths, Server
from codexd.encoding import convert, decode_json
from codexd.eventlog.capture import last_burst_detail, unaccounted
from codexd.keeper.account import Account
from codexd.keeper.appetite import LOOK_S, Appetite
from codexd.keeper.approval_hook import ApprovalHook
from codexd.keeper.circusd import SPARE, WATCHER, Circusd, CircusError
from codexd.keeper.connector import Connector
from codexd.keeper.health import Health
from codexd.keeper.hub_driver import HubDriver
from codexd.keeper.outputs import Outputs
from codexd.keeper.pace import SOON_S, Pace
from codexd.keeper.reporter import Reporter
from codexd.keeper.restarts import Restarts
from codexd.keeper.sockets import Sockets
from codexd.keeper.spare import SpareTalk
from codexd.platform.directory_watch import DirectoryWatch, watch_directories
from codexd.records.records import Records

logger = logging.getLogger("codexd")

# What circus's events leave out (a plugin that was busy, a lost message), and what was taken away,
# is seen so soon.
_LOOK_S = 1.0
# The same where the system tells of changes and there was none; what it does not tell waits for it.
_QUIET_LOOK_S = 5.0
# Of so many looks one is at all there is, though the system told of no change.
_THOROUGH = 6
# Whoever takes things away should be done with it before they are made again.
_SETTLE_S = 0.5
_CALL_S = 5.0
# A server boots in a tenth of this; one that takes longer may be waiting for something itself.
_TELL_AFTER_S = 1.0
_ENDING_POLL_S = 0.02


class _Draining(msgspec.Struct):
    """circusd's order: hold new turns, or let go of what is held. An older circusd says nothing."""

    order: int = 0
    holds: bool = True


class Keeper:
    """Everything that lives as long as the plugin does. Call all of it from its loop."""

    def __init__(
        self,
        server: Server,
        paths: Paths,
        records: Records,
        circus: Circusd,
        *,
        driver: HubDriver,
        sockets: Sockets,
        hook: ApprovalHook,
        connector: Connector,
        outputs: Outputs,
        health: Health,
        account: Account,
        appetite: Appetite,
        reporter: Reporter,
        restarts: Restarts,
        pace: Pace,
        replace_grace_s: float,
        end_leftover: Callable[[], None],
        spare: SpareTalk | None = None,
    ) -> None:
        self._spare = spare
        self._server = server
        self._paths = paths
        self._records = records
        self._recorder = records.recorder
        self._circus = circus
        self._told: Supervision | None = None
        self._seen = 0
        # What circus says before it is known which steps are on record already.
        self._early: list[tuple[str, str, bytes]] | None = []
        self._running: tuple[int, int] | None = None
        self._talking_to: tuple[int, int] | None = None
        self._last_end = ""
        self._deaf_since: float | None = None
        self._driver = driver
        self._sockets = sockets
        self._hook = hook
        self._connector = connector
        self._waits = _Waits(connector)
        self._outputs = outputs
        self._health = health
        self._account = account
        self._appetite = appetite
        self._reporter = reporter
        self._restarts = restarts
        self._pace = pace
        self._watch: DirectoryWatch | None = None
        self._looked_at = self._look_at = 0.0
        # How many looks in a row found nothing to do.
        self._calm_looks = 0
        self._is_well = False
        self._fed_at = 0.0
        self._replace_grace_s = replace_grace_s
        self._end_leftover = end_leftover
        self._tasks: set[asyncio.Task[None]] = set()

    # -- starting ----------------------------------------------------------------------------

    async def start(self, daemon_pid: int) -> None:
        """Record what happened before this plugin was there, and begin."""
        await self._ask_for_steps()
        self._begin(daemon_pid)
        self._account_for_output()
        self._driver.start()
        await self._sockets.start()
        early, self._early = self._early or [], None
        self.reconcile()
        for said in early:
            try:
                self.circus_event(*said)
            except Exception:
                logger.exception("an event of circus could not be taken")
        if self._server.child_strategy == "external":
            self._connector.child_started(0, None)
        self.spawn(self._reporter.run())
        self.spawn(self._health.run())
        self._watch = watch_directories(
            asyncio.get_running_loop(),
            (self._paths.logs_dir, self._paths.state_dir, *self._sockets.directories),
            self._something_changed,
        )
        self._pace.start()

    def _begin(self, daemon_pid: int) -> None:
        """Under a stock circusd nobody has recorded the daemon's start before."""
        record = self._supervision()
        is_of_this_daemon = record.daemon is not None and record.daemon.pid == daemon_pid
        before = record.begin if is_of_this_daemon else record.last_number
        self._seen = record.first_to_apply(daemon_pid, self._recorder.recorded) - 1
        daemon = self._records.state.daemon
        if daemon.started and daemon.pid == daemon_pid:
            return
        self._seen = before
        self._records.daemon_begins(daemon_pid, until=before)
        if self._server.child_strategy == "external":
            self._recorder.external(self._server.endpoint)

    def _account_for_output(self) -> None:
        """Bytes that an earlier plugin moved into a log just before it died are in no event."""
        paths, kinds = self._paths, self._records.events.kinds
        for stream, path in (("stdout", paths.stdout_log_path), ("stderr", paths.stderr_log_path)):
            detail = last_burst_detail(kinds, paths.structured_event_log_path, stream)
            count, position = unaccounted(path, detail)
            if count:
                self._recorder.event(
                    "warn" if stream == "stderr" else "info",
                    f"child.{stream}",
                    f"{stream}: {count} bytes from before the plugin was restarted",
                    {"bytes": count, "stream": stream, **position},
                )

    def spawn(self, coroutine: Any) -> None:
        """Run a coroutine for as long as this keeper is there."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended_task)

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the plugin failed", exc_info=task.exception())

    # -- what time brings --------------------------------------------------------------------

    def tick(self, late_s: float) -> float:
        """See what is to be done by now; returns in how many seconds there may be more.

        ``late_s`` is for how long this process did not run, if it did not.
        """
        now = asyncio.get_running_loop().time()
        if late_s:
            self._driver.held_up(late_s)
        wanted_s = self._driver.tick()
        self._tell_of_wait(now)
        if self._retry():
            wanted_s = SOON_S
        if now >= self._look_at:
            self._look(now)
        left_s = max(self._look_at - now, 0.0)
        return left_s if wanted_s is None else min(left_s, wanted_s)

    def _retry(self) -> bool:
        """Try again what could not be done at once; whether there is any such thing."""
        events, outputs, sockets = self._records.events, self._outputs, self._sockets
        if events.is_waiting:
            events.tick()
        if outputs.is_holding:
            outputs.tick()
        if sockets.has_network:
            sockets.tick()
        is_waiting = events.is_waiting or outputs.is_holding or sockets.has_network
        return is_waiting or self._connector.waiting_since is not None

    def _look(self, now: float) -> None:
        """See that everything is there, and that nothing was missed."""
        self._looked_at = now
        # Should something below fail, it is tried again as soon.
        self._look_at = now + _LOOK_S
        # Before it is looked: what goes from here on is told.
        is_watched = self._watch is not None and self._watch.look()
        if not (is_watched and self._is_as_it_was):
            self._is_well = self._records.look()
            self._outputs.tick()
            self.reconcile()
        self._sockets.look()
        if self._server.child_strategy == "spawn" and now - self._fed_at >= LOOK_S:
            self._fed_at = now
            self._appetite.look(self._recorder.child.pid, is_idle=self._driver.is_idle, now=now)
        is_calm = is_watched and self._sockets.is_complete and self._deaf_since is None
        self._calm_looks = self._calm_looks + 1 if is_calm else 0
        # One more, for what could not be done at the first.
        if self._calm_looks > 1:
            self._look_at = now + until_beat(now, _QUIET_LOOK_S)

    @property
    def _is_as_it_was(self) -> bool:
        """Whether nobody has touched a directory since all was well there."""
        is_still = self._watch is not None and self._watch.is_still and self._spare is None
        return (
            is_still and self._is_well and self._calm_looks > 1 and self._calm_looks % _THOROUGH > 0
        )

    def _something_changed(self) -> None:
        """Something in the directories was taken away, or put there."""
        now = asyncio.get_running_loop().time()
        self._calm_looks = 0
        self._look_at = min(self._look_at, max(now + _SETTLE_S, self._looked_at + _LOOK_S))
        self._pace.within(self._look_at - now)

    def _tell_of_wait(self, now: float) -> None:
        awaited = self._waits.look(now)
        if awaited is not None:
            detail = {"pid": self._recorder.child.pid, "endpoint": awaited}
            message = f"Waiting for the server to answer on {awaited}."
            self._recorder.event("info", "child.waiting", message, detail)

    def recycle(self) -> None:
        """Have the child end in order, and another started."""
        self._restarts.because("memory")
        # A turn that begins in this moment may end first, as at any restart.
        self.spawn(self._call("codexd-restart"))

    # -- what circus says --------------------------------------------------------------------

    def circus_event(self, watcher: str, action: str, message: bytes) -> None:
        """One message of circus's event stream; one that comes before the start waits for it."""
        if self._early is not None:
            self._early.append((watcher, action, message))
            return
        if watcher == SPARE and self._spare is not None:
            if action == "ended":
                told = msgspec.json.decode(message)
                self._spare.ended(told["pid"], told["code"], told["reason"])
            self.reconcile()
        if watcher != WATCHER:
            return
        if action == "step":
            self._take(convert(msgspec.json.decode(message), Step))
        elif action == "draining":
            order = decode_json(message, _Draining)
            self._driver.drain(order.order, holds=order.holds)
        elif action == "session":
            wanted = msgspec.json.decode(message)
            self._records.open_session(wanted["session_id"], wanted["purpose"], wanted["metadata"])
        else:
            self.reconcile()

    def _take(self, step: Step) -> None:
        if step.number > self._seen + 1:
            self.reconcile()
            if step.number > self._seen:
                self.spawn(self._ask_for_steps())
        elif step.number == self._seen + 1:
            self._apply(step)
            self._follow()

    def reconcile(self) -> None:
        """Apply every step that circusd took and no event told of; none before the start."""
        if self._early is not None:
            return
        self._connector.look()
        record = self._supervision()
        if self._spare is not None:
            # Its pipes come by their place when it is promoted, and with what they held before.
            self._outputs.reserve(self._spare.generation)
        self._outputs.scan()
        for step in record.steps:
            if step.number > self._seen:
                self._apply(step)
        self._follow()
        if self._spare is not None:
            self._spare.follow(record.spare)
        self._mind_the_pipes()

    def _mind_the_pipes(self) -> None:
        """Have a child replaced that nobody can hear any more.

        The runtime directory went, and then the plugin that held its pipes open. Such a child
        gets no new turn, and stops at a full pipe.
        """
        now = asyncio.get_event_loop().time()
        generation = None if self._running is None else self._running[0]
        if generation is None or not self._outputs.is_lost(generation):
            self._deaf_since = None
            return
        self._deaf_since = now if self._deaf_since is None else self._deaf_since
        if now - self._deaf_since >= child_io.NAMED_AGAIN_S:
            # Not again before circusd has had its time to do it.
            self._deaf_since = now + _CALL_S
            self.unhealthy(
                "The child's pipes are gone with the runtime directory, "
                "and with the plugin that held them."
            )

    def _supervision(self) -> Supervision:
        """What circusd wrote down, or told because it could not."""
        record = supervision.load(self._records.steps_path)
        told = self._told
        return record if told is None or record.last_number >= told.last_number else told

    async def _ask_for_steps(self) -> None:
        """On a full disk watcher.json lacks the newest steps, and circus's events are told once."""
        if self._server.child_strategy == "external":
            return
        try:
            answer = await self._circus.call("codexd-steps", timeout_s=_CALL_S, name=WATCHER)
        except CircusError as error:
            logger.warning("%s", error)
            return
        if answer.get("record") is not None:
            self._told = convert(answer["record"], Supervision)

    def _apply(self, step: Step) -> None:
        self._seen = step.number
        if step.kind == "spawned" and step.pid is not None:
            self._add_outputs(step.generation, step.pid, is_promoted=step.promoted)
            self._outputs.ended(step.generation - 1)
            self._running = (step.generation, step.pid)
        elif step.kind in ("ended", "spawn_failed"):
            # First everything that the child still wrote, then its end.
            self._outputs.ended(step.generation)
            self._running = None
            self._last_end = _reason(step)
            if step.kind == "ended":
                step.error = self._outputs.take_last_words(step.generation)
        if step.number > self._recorder.recorded:
            self._restarts.step(step)
        self._recorder.step(step)

    def _add_outputs(self, generation: int, pid: int, *, is_promoted: bool) -> None:
        if not is_promoted or self._spare is None:
            self._outputs.add(generation)
            return
        early = self._spare.promote(pid)
        self._outputs.add(generation, early)
        feed = self._spare.feed_of(pid)
        if feed is not None:
            self._outputs.hand_to(generation, feed)

    def _follow(self) -> None:
        """Have the connector speak with the child that runs."""
        if self._running == self._talking_to:
            return
        if self._talking_to is not None:
            self._connector.child_ended(self._last_end)
        if self._running is not None:
            self._connector.child_started(*self._running)
        self._talking_to = self._running
        self._reporter.changed()
        self._pace.soon()

    def report(self) -> Report:
        """What circusd is told."""
        report = self._driver.report(None if self._talking_to is None else self._talking_to[1])
        if self._spare is None:
            return report
        return msgspec.structs.replace(
            report, spare=self._spare.vouched, unfit_spare=self._spare.unfit
        )

    # -- what the connector says --------------------------------------------------------------

    def became_ready(self, pid: int | None, detail: dict[str, Any]) -> None:
        """The handshake with the child is done."""
        self._recorder.ready(detail)
        self._restarts.ready()
        self._health.child_ready()
        if pid is not None:
            self.spawn(self._call("codexd-ready", pid=pid))

    def became_lost(self, reason: str) -> None:
        """The connection to the child is gone; the child may live."""
        self._recorder.link_lost(reason)
        self._pace.soon()

    def healthy(self) -> None:
        """The child has answered a health check, or a client instead."""
        # It was called unhealthy, and nobody could replace it before it answered again.
        if not self._recorder.child.ready:
            self._restarts.because(None)
            self._recorder.ready({"pid": self._recorder.child.pid})
        self._account.tick()

    def unhealthy(self, reason: str) -> None:
        """The child is to be replaced."""
        self._recorder.not_ready(reason, unhealthy=True)
        self._restarts.because("unhealthy")
        pid = self._recorder.child.pid
        if pid is not None:
            grace_s = self._replace_grace_s
            self.spawn(self._call("codexd-replace", pid=pid, graceful_timeout=grace_s))

    async def _call(self, command: str, **properties: Any) -> None:
        try:
            await self._circus.call(command, timeout_s=_CALL_S, name=WATCHER, **properties)
        except CircusError as error:
            logger.warning("%s", error)

    # -- ending ------------------------------------------------------------------------------

    async def see_the_child_end(self, daemon_pid: int) -> None:
        """If the child is ending with the daemon, wait for it.

        It takes as long as circusd gives it. A plugin that is only restarted itself does not wait.
        """
        asked = asyncio.ensure_future(self._is_active())
        try:
            while self._recorder.child.pid is not None or self._knows_a_spare:
                # A daemon that is killed has some threads for a moment longer, and is still
                # the parent then: looking once is not enough.
                if os.getppid() != daemon_pid:
                    await self._end_orphan(daemon_pid)
                    return
                if asked.done() and asked.result():
                    return
                self.reconcile()
                await asyncio.sleep(_ENDING_POLL_S)
        finally:
            asked.cancel()

    @property
    def _knows_a_spare(self) -> bool:
        return self._spare is not None and self._spare.generation is not None

    async def _is_active(self) -> bool:
        try:
            answer = await self._circus.call("status", timeout_s=_CALL_S, name=WATCHER)
        except CircusError:
            return False
        return answer.get("status") == "active"

    async def _end_orphan(self, daemon_pid: int) -> None:
        """circusd is dead: its child must not outlive it, and nobody else sees it end."""
        record = supervision.load(self._records.steps_path)
        is_ours = record.daemon is not None and record.daemon.pid == daemon_pid
        if is_ours:
            await asyncio.get_running_loop().run_in_executor(None, self._end_leftover)
        self.reconcile()
        if self._running is not None:
            self._outputs.ended(self._running[0])
        if self._recorder.child.pid is not None:
            self._recorder.lost_with_daemon(self._seen)
        if is_ours:
            # Whoever waits for a turn hears of its end while the sockets are there.
            self._connector.child_ended("its daemon was killed")

    async def stop(self) -> None:
        """Record what is left to record, and let go of everything."""
        self._pace.stop()
        if self._watch is not None:
            self._watch.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reconcile()
        await self._connector.close()
        if self._spare is not None:
            self._spare.close()
        await self._sockets.stop()
        await self._hook.stop()
        # No client is left, so no turn begins any more.
        await self._reporter.leave()
        self._outputs.close()


class _Waits:
    """Tells once of each wait for the child that has taken a while."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._told_of: float | None = None

    def look(self, now: float) -> str | None:
        """The endpoint that is waited for, where nobody was told yet."""
        since, endpoint = self._connector.waiting_since, self._connector.endpoint
        if since is None or endpoint is None or since == self._told_of:
            return None
        if now - since < _TELL_AFTER_S:
            return None
        self._told_of = since
        return f"unix://{endpoint.path}" if endpoint.kind == "unix" else endpoint.url


def _reason(step: Step) -> str:
    if step.code is None:
        return "the server ended"
    return (
        f"the server ended by signal {-step.code}"
        if step.code < 0
        else (f"the server ended with code {step.code}")
    )
