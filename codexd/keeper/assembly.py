"""What the plugin is made of: the keeper and those it works with, each told what it needs."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable

from codexd import runtime
from codexd.api.page_access import FILE, PageAccess
from codexd.api.service import Service
from codexd.api.websocket import Cork
from codexd.child import family
from codexd.child.outcome import judge
from codexd.child.told import Patience
from codexd.config import Config, has_spare
from codexd.keeper.account import Account
from codexd.keeper.appetite import Appetite
from codexd.keeper.approval_hook import ApprovalHook
from codexd.keeper.changes import ChildChanges
from codexd.keeper.circusd import Orders
from codexd.keeper.connector import Connector
from codexd.keeper.health import Health
from codexd.keeper.hub_driver import HubDriver
from codexd.keeper.introduction import Introduction
from codexd.keeper.keeper import Keeper
from codexd.keeper.kept_threads import KeptThreads
from codexd.keeper.metrics import Metrics
from codexd.keeper.outputs import Outputs
from codexd.keeper.pace import Pace
from codexd.keeper.reporter import Reporter
from codexd.keeper.restarts import Restarts
from codexd.keeper.routes import route_table
from codexd.keeper.sockets import Sockets, socket_paths, tcp_listener
from codexd.keeper.spare import Around, Record, SpareTalk
from codexd.keeper.status import Status
from codexd.link.endpoint import token_file
from codexd.records.records import Records
from codexd.settings import Policy

logger = logging.getLogger("codexd")

# A server that answers nobody is not given longer than this to end by itself.
_REPLACE_GRACE_MAX_S = 5.0


def assemble(config: Config, records: Records, circus: Orders) -> Keeper:
    """The keeper of this plugin. Call it in the plugin's loop."""
    server, policy, runtime_dir = config.server, config.policy, config.runtime.runtime_dir
    event = records.recorder.event
    spawns = server.child_strategy == "spawn"
    speaks_stdio = server.mode == "app-server" and server.endpoint.startswith("stdio:")
    patience = Patience.of(
        timeout_ms=policy.health_timeout_ms,
        misses=policy.health_misses,
        ready_timeout_ms=policy.ready_timeout_ms,
    )
    # Some of them call each other, so each is looked up when it is called.
    pace = Pace(asyncio.get_event_loop(), lambda late_s: keeper.tick(late_s))
    records.events.on_waiting = pace.soon
    cork = Cork()
    reporter = Reporter(circus, lambda: keeper.report(), event)
    driver = HubDriver(
        server.endpoint,
        policy,
        records,
        reporter.changed,
        on_account=lambda data: account.heard(data),
        on_client=lambda info, capabilities: connector.client_came(info, capabilities),
        on_approval=lambda approval_id: hook.requested(approval_id),
        kept=KeptThreads(runtime_dir),
        soon=pace.soon,
        quiet_period_s=patience.quiet_period_s,
    )
    hook = ApprovalHook(
        policy.approval_command,
        policy.approval_command_timeout_ms / 1000,
        os.environ,
        driver,
        event,
    )
    connector = Connector(
        server,
        runtime_dir,
        driver,
        lambda generation, feed: outputs.hand_to(generation, feed),
        lambda pid, detail: keeper.became_ready(pid, detail),
        lambda reason: keeper.became_lost(reason),
        lambda: account.child_ready(),
        records.recorder.refused,
        Introduction(config.paths.state_dir, policy.originator or None),
        cork.around,
        lambda pid: None if spare is None else spare.take(pid),
    )
    spare = None
    if has_spare(config):
        spare = _spare(
            runtime_dir,
            policy,
            connector,
            driver,
            event,
            reporter.changed,
            lambda reason: keeper.unhealthy(reason),
            cork.around,
            token_file(server),
        )
    account = Account(connector.ask, lambda coroutine: keeper.spawn(coroutine))
    outputs = Outputs(
        config.paths,
        policy,
        runtime_dir,
        event,
        pace.soon,
        may_be_protocol=speaks_stdio,
        is_talk=lambda: speaks_stdio and connector.is_ready,
    )
    appetite = Appetite(policy.server_max_memory_mb << 20, event, lambda: keeper.recycle())
    health = Health(
        policy,
        connector,
        lambda reason: keeper.unhealthy(reason),
        lambda: keeper.healthy(),
        answered_at=lambda: driver.answered_at,
        replaces=spawns,
    )
    restarts = Restarts()
    metrics = Metrics(
        server,
        records,
        family.path_of(runtime_dir),
        driver=driver,
        health=health,
        outputs=outputs,
        restarts=restarts,
        clients_cut=lambda: sockets.cut,
        spare=spare,
    )
    status = Status(
        config,
        records,
        driver,
        connector,
        health,
        account,
        lambda: sockets.unserved,
        lambda: sockets.tcp,
        spare,
    )
    changes = ChildChanges(
        circus,
        lambda waited_s: judge(
            records.state.daemon, server, policy, records.state.daemon.pid or 0, waited_s
        ),
        lambda: records.recorder.child.pid,
        lambda: keeper.reconcile(),
        lambda coroutine: keeper.spawn(coroutine),
        is_external=not spawns,
    )
    page = PageAccess(os.path.join(config.paths.state_dir, FILE))
    service = Service(route_table(config.paths, records, driver, status, changes, metrics, page))
    paths = socket_paths(config.runtime.hub_socket_path, on_the_default=policy.hub_default_socket)
    network = tcp_listener(policy, config.paths, runtime_dir, service, page, event)
    sockets = Sockets(driver, service, paths, policy, event, network, cork)
    keeper = Keeper(
        server,
        config.paths,
        records,
        circus,
        driver=driver,
        sockets=sockets,
        hook=hook,
        connector=connector,
        outputs=outputs,
        health=health,
        account=account,
        appetite=appetite,
        reporter=reporter,
        restarts=restarts,
        pace=pace,
        spare=spare,
        replace_grace_s=min(policy.health_timeout_ms / 1000, _REPLACE_GRACE_MAX_S),
        end_leftover=functools.partial(
            runtime.end_leftover, config.paths, config.runtime, logger.warning, grace_s=0
        ),
    )
    return keeper


def _spare(
    runtime_dir: str,
    policy: Policy,
    connector: Connector,
    driver: HubDriver,
    record: Record,
    on_change: Callable[[], None],
    on_mute: Callable[[str], None],
    around: Around,
    token: str | None,
) -> SpareTalk:
    return SpareTalk(
        runtime_dir,
        connector,
        driver.child_message,
        record,
        on_change,
        on_mute,
        around=around,
        token_file=token,
        interval_s=policy.health_interval_ms / 1000,
        timeout_s=policy.health_timeout_ms / 1000,
    )
