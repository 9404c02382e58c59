"""Every metric there is: a row each. docs/reference/metrics.md shows the table.

Names and labels are those that others build on. A label holds one word of a list that is known
beforehand: no thread, client or path, and nothing that a client or the server has sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from codexd import __version__
from codexd.clock import to_epoch
from codexd.config import Server
from codexd.contracts import (
    ChildState,
    ChildStatus,
    Identity,
    SessionPurpose,
    SessionStatus,
)
from codexd.eventlog.types import TYPES
from codexd.histogram import Histogram
from codexd.hub.counts import OTHER, TURN_STATUSES, HubCounts
from codexd.keeper.health import RESULTS
from codexd.keeper.restarts import REASONS, Restarts
from codexd.keeper.server_process import Reading

PREFIX: Final = "codexd_"

Kind = Literal["info", "gauge", "counter", "histogram"]
# The values of the labels, in the order of the row's, and the value.
Samples = Iterable[tuple[tuple[str, ...], float | Histogram]]


class Scrape(msgspec.Struct, frozen=True):
    """What the rows read, as it is in one moment.

    ``hub`` are the hub's numbers of now, ``process`` is None where there is no process of ours.
    ``sessions`` are counted by purpose and status, ``events`` by type, ``output`` bytes by stream.
    """

    identity: Identity
    server: Server
    child: ChildState
    is_ready: bool
    process: Reading | None
    restarts: Restarts
    checks: Mapping[Any, int]
    hub: Mapping[str, Any]
    counts: HubCounts
    clients_cut: int
    sessions: Mapping[tuple[str, str], int]
    events: Mapping[str, int]
    events_dropped: int
    output: Mapping[Any, int]
    spare_ready: bool = False
    spare_promotions: int = 0


class Row(NamedTuple):
    """One metric; :data:`PREFIX` comes before its name."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    read: Callable[[Scrape], Samples]


def _one(value: float | Histogram | None) -> Samples:
    """A metric without labels; of what is not known there is none."""
    return [] if value is None else [((), value)]


def _each(words: Iterable[str], numbers: Mapping[Any, int]) -> Samples:
    """One for each word, also for what has not happened: a rate needs the 0 before the 1."""
    return [((word,), numbers.get(word, 0)) for word in words]


def _info(scrape: Scrape) -> Samples:
    identity, server = scrape.identity, scrape.server
    release = identity.version or ""
    labels = (__version__, release, identity.node_id, identity.daemon_id)
    yield (*labels, server.mode, server.child_strategy), 1


def _states(scrape: Scrape) -> Samples:
    return [((state,), state == scrape.child.status) for state in get_args(ChildStatus)]


def _started_at(scrape: Scrape) -> Samples:
    child = scrape.child
    return _one(to_epoch(child.started_at) if child.pid and child.started_at else None)


def _process(part: Callable[[Reading], float | None]) -> Callable[[Scrape], Samples]:
    return lambda scrape: _one(None if scrape.process is None else part(scrape.process))


def _messages(scrape: Scrape) -> Samples:
    counts = scrape.counts
    yield ("from_client",), counts.from_clients
    yield ("to_client",), counts.to_clients
    yield ("from_server",), counts.from_server
    yield ("to_server",), counts.to_server


def _sessions(scrape: Scrape) -> Samples:
    for purpose in get_args(SessionPurpose):
        for status in get_args(SessionStatus):
            yield (purpose, status), scrape.sessions.get((purpose, status), 0)


METRICS: Final[tuple[Row, ...]] = (
    Row(
        "info",
        "info",
        ("version", "release", "node", "daemon", "mode", "strategy"),
        "Which codexd this is: its version, the release that --version named, node and daemon id, "
        "mode and strategy. Always 1.",
        _info,
    ),
    Row(
        "server_ready",
        "gauge",
        (),
        "Whether a request that comes now is answered, as /readyz says it: 1 or 0.",
        lambda scrape: _one(scrape.is_ready),
    ),
    Row(
        "server_state",
        "gauge",
        ("state",),
        "1 for the state that the server is in, as in daemon-state.json; 0 for the others.",
        _states,
    ),
    Row(
        "server_start_time_seconds",
        "gauge",
        (),
        "When the server was started, in seconds since 1970. Not there while no process of ours "
        "runs.",
        _started_at,
    ),
    Row(
        "server_restarts_total",
        "counter",
        ("reason",),
        "How often the server was started again because it died, was unhealthy, had more memory "
        "than it may (memory), or was stopped or restarted by an operator (asked).",
        lambda scrape: _each(REASONS, scrape.restarts.by_reason),
    ),
    Row(
        "server_recovery_seconds",
        "histogram",
        (),
        "From the end of a server, unless an operator asked for it, until another one answers.",
        lambda scrape: _one(scrape.restarts.recovery),
    ),
    Row(
        "spare_ready",
        "gauge",
        (),
        "Whether there is a spare that would take the server's place at once: 1 or 0.",
        lambda scrape: _one(scrape.spare_ready),
    ),
    Row(
        "spare_promotions_total",
        "counter",
        (),
        "How often a spare took the place of a server that had died; each is a restart, too.",
        lambda scrape: _one(scrape.spare_promotions),
    ),
    Row(
        "server_resident_memory_bytes",
        "gauge",
        (),
        "Resident memory of the server's own process.",
        _process(lambda process: process.resident),
    ),
    Row(
        "server_family_resident_memory_bytes",
        "gauge",
        (),
        "Resident memory of the server and all that it has started (MCP servers, commands); pages "
        "that they share count for each.",
        _process(lambda process: process.family_resident),
    ),
    Row(
        "server_cpu_seconds_total",
        "counter",
        (),
        "Processor time of the server's own process, user and system, since it started.",
        _process(lambda process: process.processor_s),
    ),
    Row(
        "server_open_fds",
        "gauge",
        (),
        "Open file descriptors of the server's own process.",
        _process(lambda process: process.open_files),
    ),
    Row(
        "server_processes",
        "gauge",
        (),
        "The server and the processes that it has started, as of the last second.",
        _process(lambda process: process.processes),
    ),
    Row(
        "health_checks_total",
        "counter",
        ("result",),
        "Health checks that were answered; where the server said something else meanwhile, or had "
        "just answered a client (heard); that it missed; that prove nothing, for codexd was held "
        "up itself (void).",
        lambda scrape: _each(RESULTS, scrape.checks),
    ),
    Row(
        "hub_clients",
        "gauge",
        (),
        "Clients that are connected, those that codexd itself has for HTTP among them.",
        lambda scrape: _one(scrape.hub["clients"]),
    ),
    Row(
        "hub_clients_cut_total",
        "counter",
        (),
        "Clients that were cut off because they did not read, followers over HTTP among them.",
        lambda scrape: _one(scrape.clients_cut),
    ),
    Row(
        "hub_requests_waiting",
        "gauge",
        (),
        "Requests that the server has not answered yet, the hub's own among them.",
        lambda scrape: _one(scrape.hub["waitingRequests"]),
    ),
    Row(
        "hub_requests_total",
        "counter",
        ("method", "code"),
        "Requests of clients that have ended: code is ok, the JSON-RPC code of the error, or left "
        "where the client did not wait for the answer. What is not known is other.",
        lambda scrape: scrape.counts.requests.items(),
    ),
    Row(
        "hub_request_duration_seconds",
        "histogram",
        ("method",),
        "From a client's request to its answer, waiting for the server, or for another server, "
        "included.",
        lambda scrape: [((method,), spread) for method, spread in scrape.counts.durations.items()],
    ),
    Row(
        "hub_messages_total",
        "counter",
        ("direction",),
        "Messages that came and went: from_client, to_client, from_server, to_server.",
        _messages,
    ),
    Row(
        "sessions",
        "gauge",
        ("purpose", "status"),
        "Sessions in the registry.",
        _sessions,
    ),
    Row(
        "turns_running",
        "gauge",
        (),
        "Threads on which a turn runs.",
        lambda scrape: _one(scrape.hub["runningTurns"]),
    ),
    Row(
        "turns_total",
        "counter",
        ("status",),
        "Turns that have ended: completed, failed or interrupted.",
        lambda scrape: _each((*TURN_STATUSES, OTHER), scrape.counts.turns),
    ),
    Row(
        "turn_duration_seconds",
        "histogram",
        (),
        "How long turns took that have ended; without those whose beginning nobody saw.",
        lambda scrape: _one(scrape.counts.turn_durations),
    ),
    Row(
        "approvals_waiting",
        "gauge",
        (),
        "Approvals that nobody has given or refused yet.",
        lambda scrape: _one(scrape.hub["waitingApprovals"]),
    ),
    Row(
        "events_total",
        "counter",
        ("type",),
        "Events that were written to events.jsonl.",
        lambda scrape: _each((*TYPES, OTHER), scrape.events),
    ),
    Row(
        "events_dropped_total",
        "counter",
        (),
        "Events that the disk did not take, and that are lost.",
        lambda scrape: _one(scrape.events_dropped),
    ),
    Row(
        "output_bytes_total",
        "counter",
        ("stream",),
        "Bytes that the server wrote to its stdout and stderr; with an endpoint on stdio stdout is "
        "the protocol.",
        lambda scrape: _each(("stdout", "stderr"), scrape.output),
    ),
)
