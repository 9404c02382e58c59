"""The heart of the plugin: hears what happens, has it recorded, and talks to the child."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from typing import Any

import msgspec

from codexd import runtime
from codexd.child import pipes as child_io
from codexd.child import steps as supervision
from codexd.child.steps import Step, Supervision
from codexd.child.told import Report
from codexd.clock import from_epoch
from codexd.config import Config
from codexd.eventlog.capture import last_burst_detail, unaccounted
from codexd.keeper.account import Account
from codexd.keeper.appetite import LOOK_S, Appetite
from codexd.keeper.circusd import WATCHER, Circusd, CircusError
from codexd.keeper.connector import Conversation
from codexd.keeper.health import Health
from codexd.keeper.hub_driver import Exchange
from codexd.keeper.outputs import Outputs
from codexd.keeper.reporter import Reporter
from codexd.records.records import Memory

logger = logging.getLogger("codexd")

# What circus's events leave out (a plugin that was busy, a lost message) is seen this often.
_RECONCILE_S = 1.0
_TICK_S = 0.1
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

    def __init__(self, config: Config, memory: Memory, circus: Circusd) -> None:
        self._config = config
        self._memory = memory
        self._recorder = memory.recorder
        self._circus = circus
        self._supervision_path = supervision.path_of(config)
        self._told: Supervision | None = None
        self._seen = 0
        self._running: tuple[int, int] | None = None
        self._talking_to: tuple[int, int] | None = None
        self._last_end = ""
        self._deaf_since: float | None = None
        speaks_stdio = config.server.mode == "app-server" and config.server.endpoint.startswith(
            "stdio:"
        )
        self._reporter = Reporter(circus, self._report, self._recorder.event)
        self._exchange = Exchange(
            config,
            memory,
            self._reporter.changed,
            self._status,
            lambda info, capabilities: self._conversation.client_came(info, capabilities),
        )
        self._conversation = Conversation(
            config,
            self._exchange,
            self._became_ready,
            self._became_lost,
            on_message=lambda data: self._account.heard(data),
            on_introduced=lambda: self._account.child_ready(),
            on_refused=self._recorder.refused,
        )
        self._account = Account(self._conversation.ask, self._spawn)
        self._waits = _Waits(self._conversation)
        self._outputs = Outputs(
            config,
            self._recorder.event,
            on_stdout=self._conversation.feed if speaks_stdio else None,
            is_talk=lambda: speaks_stdio and self._conversation.is_ready,
        )
        self._appetite = Appetite(
            config.policy.server_max_memory_mb << 20, self._recorder.event, self._recycle
        )
        self._health = Health(config, self._conversation, self._unhealthy, self._healthy)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- starting ----------------------------------------------------------------------------

    async def start(self, daemon_pid: int) -> None:
        """Record what happened before this plugin was there, and begin."""
        await self._ask_for_steps()
        self._begin(daemon_pid)
        self._account_for_output()
        await self._exchange.start()
        self.reconcile()
        if self._config.server.child_strategy == "external":
            self._conversation.child_started(0, None)
        self._spawn(self._reporter.run())
        self._spawn(self._every(_RECONCILE_S, self.reconcile))
        self._spawn(self._every(_TICK_S, self._tick))
        self._spawn(self._health.run())
        if self._config.server.child_strategy == "spawn":
            self._spawn(self._every(LOOK_S, self._look_at_appetite))

    def _begin(self, daemon_pid: int) -> None:
        """Under a stock circusd nobody has recorded the daemon's start before."""
        record = self._supervision()
        is_of_this_daemon = record.daemon is not None and record.daemon.pid == daemon_pid
        before = record.begin if is_of_this_daemon else record.last_number
        self._seen = record.first_to_apply(daemon_pid, self._recorder.recorded) - 1
        daemon = self._memory.state.daemon
        if daemon.started and daemon.pid == daemon_pid:
            return
        self._seen = before
        self._memory.daemon_begins(daemon_pid, until=before)
        if self._config.server.child_strategy == "external":
            self._recorder.external(self._config.server.endpoint)

    def _account_for_output(self) -> None:
        """Bytes that an earlier plugin moved into a log just before it died are in no event."""
        paths = self._config.paths
        for stream, path in (("stdout", paths.stdout_log_path), ("stderr", paths.stderr_log_path)):
            detail = last_burst_detail(paths.structured_event_log_path, stream)
            count, position = unaccounted(path, detail)
            if count:
                self._recorder.event(
                    "warn" if stream == "stderr" else "info",
                    f"child.{stream}",
                    f"{stream}: {count} bytes from before the plugin was restarted",
                    {"bytes": count, "stream": stream, **position},
                )

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended_task)

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the plugin failed", exc_info=task.exception())

    async def _every(self, seconds: float, action: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                action()
            except Exception:
                logger.exception("%s failed", action.__name__)

    def _tick(self) -> None:
        self._memory.tick()
        self._outputs.tick()
        self._exchange.tick()
        awaited = self._waits.look(asyncio.get_running_loop().time())
        if awaited is not None:
            detail = {"pid": self._recorder.child.pid, "endpoint": awaited}
            message = f"Waiting for the server to answer on {awaited}."
            self._recorder.event("info", "child.waiting", message, detail)

    def _look_at_appetite(self) -> None:
        now = asyncio.get_running_loop().time()
        self._appetite.look(self._recorder.child.pid, is_idle=self._exchange.is_idle, now=now)

    def _recycle(self) -> None:
        # A turn that begins in this moment may end first, as at any restart.
        self._spawn(self._call("codexd-restart"))

    # -- what circus says --------------------------------------------------------------------

    def circus_event(self, watcher: str, action: str, message: bytes) -> None:
        """One message of circus's event stream."""
        if watcher != WATCHER:
            return
        if action == "step":
            self._take(msgspec.convert(msgspec.json.decode(message), Step))
        elif action == "draining":
            order = msgspec.json.decode(message, type=_Draining)
            self._exchange.drain(order.order, holds=order.holds)
        elif action == "session":
            wanted = msgspec.json.decode(message)
            self._memory.open_session(wanted["session_id"], wanted["purpose"], wanted["metadata"])
        else:
            self.reconcile()

    def _take(self, step: Step) -> None:
        if step.number > self._seen + 1:
            self.reconcile()
            if step.number > self._seen:
                self._spawn(self._ask_for_steps())
        elif step.number == self._seen + 1:
            self._apply(step)
            self._follow()

    def reconcile(self) -> None:
        """Apply every step that circusd took and no event told of."""
        self._outputs.scan()
        self._conversation.look()
        for step in self._supervision().steps:
            if step.number > self._seen:
                self._apply(step)
        self._follow()
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
            self._unhealthy(
                "The child's pipes are gone with the runtime directory, "
                "and with the plugin that held them."
            )

    def _supervision(self) -> Supervision:
        """What circusd wrote down, or told because it could not."""
        record = supervision.load(self._supervision_path)
        told = self._told
        return record if told is None or record.last_number >= told.last_number else told

    async def _ask_for_steps(self) -> None:
        """On a full disk watcher.json lacks the newest steps, and circus's events are told once."""
        if self._config.server.child_strategy == "external":
            return
        try:
            answer = await self._circus.call("codexd-steps", timeout_s=_CALL_S, name=WATCHER)
        except CircusError as error:
            logger.warning("%s", error)
            return
        if answer.get("record") is not None:
            self._told = msgspec.convert(answer["record"], Supervision)

    def _apply(self, step: Step) -> None:
        self._seen = step.number
        if step.kind == "spawned" and step.pid is not None:
            self._outputs.add(step.generation)
            self._outputs.ended(step.generation - 1)
            self._running = (step.generation, step.pid)
        elif step.kind in ("ended", "spawn_failed"):
            # First everything that the child still wrote, then its end.
            self._outputs.ended(step.generation)
            self._running = None
            self._last_end = _reason(step)
            if step.kind == "ended":
                step.error = self._outputs.take_last_words(step.generation)
        self._recorder.step(step)

    def _follow(self) -> None:
        """Have the conversation be with the child that runs."""
        if self._running == self._talking_to:
            return
        if self._talking_to is not None:
            self._conversation.child_ended(self._last_end)
        if self._running is not None:
            self._conversation.child_started(*self._running)
        self._talking_to = self._running
        self._reporter.changed()

    def _report(self) -> Report:
        return self._exchange.report(None if self._talking_to is None else self._talking_to[1])

    # -- what the conversation says ----------------------------------------------------------

    def _became_ready(self, pid: int | None, detail: dict[str, Any]) -> None:
        self._recorder.ready(detail)
        self._health.child_ready()
        if pid is not None:
            self._spawn(self._call("codexd-ready", pid=pid))

    def _became_lost(self, reason: str) -> None:
        self._recorder.link_lost(reason)

    def _healthy(self) -> None:
        self._exchange.answered()
        # It was called unhealthy, and nobody could replace it before it answered again.
        if not self._recorder.child.ready:
            self._recorder.ready({"pid": self._recorder.child.pid})
        self._account.tick()

    def _unhealthy(self, reason: str) -> None:
        self._recorder.not_ready(reason, unhealthy=True)
        pid = self._recorder.child.pid
        if pid is not None:
            grace_s = min(self._config.policy.health_timeout_ms / 1000, 5.0)
            self._spawn(self._call("codexd-replace", pid=pid, graceful_timeout=grace_s))

    async def _call(self, command: str, **properties: Any) -> None:
        try:
            await self._circus.call(command, timeout_s=_CALL_S, name=WATCHER, **properties)
        except CircusError as error:
            logger.warning("%s", error)

    def _status(self) -> dict[str, Any]:
        """What `GET /v1/status` tells beside what the hub does."""
        conversation = self._conversation
        heard_ago = asyncio.get_running_loop().time() - conversation.last_heard
        last_answer_at = from_epoch(time.time() - heard_ago) if conversation.last_heard else None
        return {
            "health": {"lastAnswerAt": last_answer_at, "misses": self._health.misses},
            "account": self._account.status() if conversation.is_ready else None,
        }

    # -- ending ------------------------------------------------------------------------------

    async def see_the_child_end(self, daemon_pid: int) -> None:
        """If the child is ending with the daemon, wait for it.

        It takes as long as circusd gives it. A plugin that is only restarted itself does not wait.
        """
        asked = asyncio.ensure_future(self._is_active())
        try:
            while self._recorder.child.pid is not None:
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

    async def _is_active(self) -> bool:
        try:
            answer = await self._circus.call("status", timeout_s=_CALL_S, name=WATCHER)
        except CircusError:
            return False
        return answer.get("status") == "active"

    async def _end_orphan(self, daemon_pid: int) -> None:
        """circusd is dead: its child must not outlive it, and nobody else sees it end."""
        record = supervision.load(self._supervision_path)
        if record.daemon is not None and record.daemon.pid == daemon_pid:
            loop = asyncio.get_running_loop()
            end = functools.partial(runtime.end_leftover, self._config, logger.warning, grace_s=0)
            await loop.run_in_executor(None, end)
        self.reconcile()
        if self._running is not None:
            self._outputs.ended(self._running[0])
        if self._recorder.child.pid is not None:
            self._recorder.lost_with_daemon(self._seen)

    async def stop(self) -> None:
        """Record what is left to record, and let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.reconcile()
        await self._conversation.close()
        await self._exchange.stop()
        # No client is left, so no turn begins any more.
        await self._reporter.leave()
        self._outputs.close()


class _Waits:
    """Tells once of each wait for the child that has taken a while."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._told_of: float | None = None

    def look(self, now: float) -> str | None:
        """The endpoint that is waited for, where nobody was told yet."""
        since, endpoint = self._conversation.waiting_since, self._conversation.endpoint
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
