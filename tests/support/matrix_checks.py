"""What must hold of a daemon that has settled, as a table of small checks on what was seen of it.

A check is given the evidence and yields one line for each violation. It looks nothing up itself:
so a planted fault is a changed field (tests/unit/test_matrix_checks.py).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tests.support.matrix_clients import Turn

# A process may keep some descriptors and memory of what it has done; not more and more of it.
_SPARE_DESCRIPTORS = 4
_SPARE_MEMORY = 48 << 20
# Is there only while the server has families to be remembered.
_MAY_COME_AND_GO = {
    f"state/codexd/run/{name}.json"
    for name in ("family", "threads", "spare-family", "spare-handshake")
}
# An idle server answers at once; this is for a machine that is busy with other things.
_ANSWER_S = 10.0
# A drain and a restart, or a wait for running turns, take less.
_COMMAND_S = 20.0


@dataclass(slots=True)
class Evidence:
    """Everything that was seen of a daemon and its clients once it had settled.

    ``pids`` maps each process of the daemon that was looked for (``circusd``, ``plugin``,
    ``server``) to the pids that were found; ``twins`` are the moments at which two servers were
    seen on one CODEX_HOME, ``strangers`` the processes that nobody of those has under it.
    """

    pids: dict[str, list[int]]
    events: list[dict[str, Any]]
    recent: dict[str, Any]
    state: dict[str, Any]
    status: dict[str, Any]
    check_code: int
    turns: list[Turn] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    waited_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    commands_s: dict[str, float] = field(default_factory=dict)
    descriptors: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    log: str = ""
    # What was done since the last settling, and what it may have hurt: server, turns.
    hurt: frozenset[str] = frozenset({"server", "turns"})
    server_before: list[int] = field(default_factory=list)
    cut_since: list[str] = field(default_factory=list)


Check = Callable[[Evidence, Evidence], Iterator[str]]


# -- processes -------------------------------------------------------------------------------


def one_server(now: Evidence, then: Evidence) -> Iterator[str]:
    """One daemon, one plugin and one server, and never two servers at a time."""
    del then
    for what, pids in now.pids.items():
        if len(pids) != 1:
            yield f"{len(pids)} processes are the {what}: {pids}"
    yield from now.twins


def no_stranger(now: Evidence, then: Evidence) -> Iterator[str]:
    """No process too many."""
    del then
    for stranger in now.strangers:
        yield f"a process is left over: {stranger}"


def no_more_descriptors(now: Evidence, then: Evidence) -> Iterator[str]:
    """No pipe, socket or descriptor too many."""
    for what, count in now.descriptors.items():
        if count > then.descriptors[what] + _SPARE_DESCRIPTORS:
            yield f"the {what} has {count} descriptors, {then.descriptors[what]} at first"


def flat_memory(now: Evidence, then: Evidence) -> Iterator[str]:
    """Memory does not grow with what happened."""
    for what, size in now.memory.items():
        if size > then.memory[what] + _SPARE_MEMORY:
            yield f"the {what} has {size >> 20} MiB, {then.memory[what] >> 20} MiB at first"


def same_server(now: Evidence, then: Evidence) -> Iterator[str]:
    """Who did nothing to the server finds the same one."""
    del then
    if "server" not in now.hurt and now.pids["server"] != now.server_before:
        yield f"the server is {now.pids['server']}, it was {now.server_before}: nobody hurt it"


# -- the record ------------------------------------------------------------------------------


def true_state(now: Evidence, then: Evidence) -> Iterator[str]:
    """daemon-state.json says what runs."""
    del then
    child = now.state["child"]
    said = (now.state["started"], child["status"], child["ready"], child["nextRestartAt"])
    if said != (True, "running", True, None):
        yield f"daemon-state.json says started, status, ready, nextRestartAt = {said}"
    for what, pid in (("circusd", now.state["pid"]), ("server", child["pid"])):
        if [pid] != now.pids[what]:
            yield f"daemon-state.json calls {pid} the {what}; it is {now.pids[what]}"
    if child["lastError"] is not None:
        yield f"a ready child has lastError {child['lastError']!r}"


def true_status(now: Evidence, then: Evidence) -> Iterator[str]:
    """`status --json` and `--check` say it too."""
    del then
    live, daemon = now.status["live"], now.status["daemon"]
    if now.check_code != 0:
        yield f"status --check says {now.check_code} of a server that is up"
    if [live["daemonPid"]] != now.pids["circusd"] or [live["childPid"]] != now.pids["server"]:
        yield f"status --json finds daemon {live['daemonPid']} and child {live['childPid']}"
    if (daemon["started"], daemon["child"]["status"]) != (True, "running"):
        yield f"status --json says {daemon['child']['status']}"


def no_gap(now: Evidence, then: Evidence) -> Iterator[str]:
    """Events are numbered from 1 by one, and what was written stays."""
    for expected, event in enumerate(now.events, start=1):
        if event["seq"] != expected:
            yield f"event {event['seq']} stands where {expected} belongs"
            break
    if now.events[: len(then.events)] != then.events:
        yield "events that were written before are others now"


def tail_in_cache(now: Evidence, then: Evidence) -> Iterator[str]:
    """recent-events.json is the end of events.jsonl; it was read last, and may have more."""
    del then
    cached = now.recent["events"]
    last = now.events[-1]["seq"] if now.events else 0
    newer = sum(event["seq"] > last for event in cached)
    kept = max(0, now.recent["maxEntries"] - newer)
    if cached[: len(cached) - newer] != now.events[max(0, len(now.events) - kept) :]:
        yield f"recent-events.json has {_span(cached)}, events.jsonl {_span(now.events)}"


def _span(events: list[dict[str, Any]]) -> str:
    return f"{events[0]['seq']} to {events[-1]['seq']}" if events else "nothing"


def servers_in_order(now: Evidence, then: Evidence) -> Iterator[str]:
    """A child that started has ended before the next starts."""
    del then
    yield from _alternating(now.events, "child.started", "child.exited")


def daemons_in_order(now: Evidence, then: Evidence) -> Iterator[str]:
    """The end of a daemon is on record before the next one's start."""
    del then
    yield from _alternating(now.events, "daemon.started", "daemon.stopped")


def _alternating(events: list[dict[str, Any]], begin: str, end: str) -> Iterator[str]:
    running: Any = None
    for event in events:
        pid = (event["detail"] or {}).get("pid")
        if event["type"] == begin:
            if running is not None:
                yield f"{begin} at {event['seq']}, and no {end} of the one before ({running})"
            running = pid
        elif event["type"] == end:
            if running is None or pid not in (None, running):
                yield f"{end} at {event['seq']} of {pid}; {running} ran"
            running = None


def counted_restarts(now: Evidence, then: Evidence) -> Iterator[str]:
    """`restarts` counts the children of this daemon after its first."""
    del then
    starts = 0
    for event in now.events:
        if event["type"] == "daemon.started":
            starts = 0
        starts += event["type"] == "child.started"
    if now.state["child"]["restarts"] != starts - 1:
        said = now.state["child"]["restarts"]
        yield f"restarts is {said}, and {starts} children were started by this daemon"


def no_leftover_file(now: Evidence, then: Evidence) -> Iterator[str]:
    """No file in state, logs and runtime directory that was not there at first."""
    for name in sorted(now.files - then.files - _MAY_COME_AND_GO):
        yield f"a file is left over: {name}"
    for name in sorted(then.files - now.files - _MAY_COME_AND_GO):
        yield f"a file is gone: {name}"


def quiet_log(now: Evidence, then: Evidence) -> Iterator[str]:
    """No traceback."""
    del then
    found = re.search(r"Traceback \(most recent call last\):.*?\n(?=\S)[^\n]*", now.log, re.DOTALL)
    if found:
        yield f"a traceback: {found[0][-600:]}"


# -- clients ---------------------------------------------------------------------------------


def every_turn_ends(now: Evidence, then: Evidence) -> Iterator[str]:
    """Each turn ended exactly once for the client that began it."""
    del then
    for turn in now.turns:
        if turn.is_open or len(turn.ends) > 1:
            how = f"ended {len(turn.ends)} times ({', '.join(turn.ends)})"
            yield f"turn {turn.turn_id} of {turn.client} {how}, read as {turn.read}"


def every_turn_on_record(now: Evidence, then: Evidence) -> Iterator[str]:
    """Each turn that a client knows, or that is on record, has one start and one end there."""
    del then
    record: dict[str, Counter[str]] = defaultdict(Counter)
    for event in now.events:
        if event["type"] in ("turn.started", "turn.completed", "turn.interrupted"):
            what = "start" if event["type"] == "turn.started" else "end"
            record[event["detail"]["turnId"]][what] += 1
    known = {turn.turn_id: turn.client for turn in now.turns}
    for turn_id in {**record, **known}:
        count = record[turn_id]
        if (count["start"], count["end"]) != (1, 1):
            whose = known.get(turn_id, "nobody we know")
            yield (
                f"turn {turn_id} of {whose} is on record with {count['start']} starts "
                f"and {count['end']} ends"
            )


def no_turn_cut(now: Evidence, then: Evidence) -> Iterator[str]:
    """What lets turns end has cut none."""
    del then
    if "turns" not in now.hurt and now.cut_since:
        yield f"turns were cut, though nothing was to cut them: {', '.join(now.cut_since)}"


def nobody_waits(now: Evidence, then: Evidence) -> Iterator[str]:
    """Every client got an answer to its small request, and every command came to an end, soon."""
    del then
    for client, failure in now.failures.items():
        yield f"{client}: {failure}"
    for client, seconds in now.waited_s.items():
        if seconds > _ANSWER_S:
            yield f"{client} waited {seconds:.1f} s for an answer to thread/loaded/list"
    for command, seconds in now.commands_s.items():
        if seconds > _COMMAND_S:
            yield f"{command} took {seconds:.1f} s"


CHECKS: dict[str, Check] = {
    "one server or none": one_server,
    "no process too many": no_stranger,
    "no descriptor too many": no_more_descriptors,
    "no file too many": no_leftover_file,
    "memory is flat": flat_memory,
    "the same server where nobody hurt it": same_server,
    "the state is true": true_state,
    "the status is true": true_status,
    "numbers without a gap": no_gap,
    "the cache is the tail": tail_in_cache,
    "servers follow each other": servers_in_order,
    "daemons follow each other": daemons_in_order,
    "restarts are counted": counted_restarts,
    "no traceback": quiet_log,
    "every turn ends once": every_turn_ends,
    "every turn is on record": every_turn_on_record,
    "no turn is cut by what waits": no_turn_cut,
    "nobody waits": nobody_waits,
}


@dataclass(slots=True)
class Rest:
    """What was seen of a daemon that is dead, or whose server was stopped by hand."""

    daemon_runs: bool
    servers: list[int]
    status: dict[str, Any]
    check_code: int


def rest_violations(rest: Rest) -> list[str]:
    """One line for each thing that a daemon without a server must not be or say."""
    daemon = rest.status["daemon"]
    child = daemon["child"]
    wrong = {
        f"servers live: {rest.servers}": bool(rest.servers),
        f"status says started = {daemon['started']}": daemon["started"] != rest.daemon_runs,
        f"status calls the child {child['status']}": child["status"] in ("running", "starting"),
        f"status calls the child ready, with pid {child['pid']}": child["ready"] or child["pid"],
        f"status --check says {rest.check_code}": rest.check_code != 3,
    }
    return [line for line, is_wrong in wrong.items() if is_wrong]


def violations(now: Evidence, then: Evidence, without: Collection[str] = frozenset()) -> list[str]:
    """One line for each violation; ``then`` is what was seen when the daemon was new.

    ``without`` are the names of checks that are left out.
    """
    checks = [(name, check) for name, check in CHECKS.items() if name not in without]
    return [f"{name}: {line}" for name, check in checks for line in islice(check(now, then), 5)]
