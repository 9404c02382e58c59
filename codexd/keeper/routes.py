"""Which routes the plugin answers over HTTP, and who works behind them."""

from __future__ import annotations

from codexd.api.approvals import ApprovalRoutes
from codexd.api.asker import Asker
from codexd.api.changes import ChangeRoutes
from codexd.api.event_feed import EventFeed
from codexd.api.events import EventRoutes
from codexd.api.health import HealthRoutes
from codexd.api.logs import LogRoutes
from codexd.api.metrics import MetricsRoutes
from codexd.api.openapi import OpenApiRoutes
from codexd.api.openings import Openings
from codexd.api.page import PageRoutes
from codexd.api.page_access import PageAccess
from codexd.api.sessions import SessionRoutes
from codexd.api.status import StatusRoutes
from codexd.api.table import Table
from codexd.api.threads import ThreadRoutes
from codexd.api.turn_book import TurnBook
from codexd.api.turns import TurnRoutes
from codexd.config import Paths
from codexd.keeper.changes import ChildChanges
from codexd.keeper.hub_driver import HubDriver
from codexd.keeper.metrics import Metrics
from codexd.keeper.sessions import Sessions
from codexd.keeper.status import Status
from codexd.records.records import Records


def route_table(
    paths: Paths,
    records: Records,
    driver: HubDriver,
    status: Status,
    changes: ChildChanges,
    metrics: Metrics,
    page: PageAccess,
) -> Table:
    """All of them."""
    sessions = Sessions(records, driver)
    asker, openings = Asker(driver), Openings(driver)
    table = Table(
        [
            HealthRoutes(lambda: driver.is_usable),
            StatusRoutes(status.document),
            MetricsRoutes(metrics.page),
            SessionRoutes(sessions, asker),
            ThreadRoutes(openings, asker, sessions, driver.turn_status),
            ApprovalRoutes(driver),
            TurnRoutes(TurnBook(driver, openings), asker, driver.turn_status),
            EventRoutes(EventFeed(records.events)),
            LogRoutes(paths.stdout_log_path, paths.stderr_log_path),
            ChangeRoutes(changes),
            PageRoutes(page),
            OpenApiRoutes(lambda: table.rows),
        ]
    )
    return table
