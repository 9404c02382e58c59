"""How the view looks: a model and a size in, lines out. Only this knows rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from codexd import __version__
from codexd.cli.daemons import format_age
from codexd.cli.ids import shortened
from codexd.cli.terminal import harmless, local_time, one_line
from codexd.cli.top.model import Look, Model
from codexd.cli.top.restarts import sparkline
from codexd.cli.top.shown import Process, Snapshot
from codexd.contracts import ChildState, Event
from codexd.shapes import Session

_BARS: Final = 24
_LABEL: Final = 10
_CLOCK: Final = len("12:00:00")
# What is shown at least of each list, and at most of those that grow.
_FEWEST: Final = 3
_STATE_STYLES: Final = {
    "ready": "bold green",
    "running": "yellow",
    "starting": "yellow",
    "failed": "bold red",
    "stopped": "yellow",
    "external": "green",
}
_LEVEL_STYLES: Final = {"error": "red", "warn": "yellow", "info": ""}
_SAID_STYLES: Final = {
    "user": "bold",
    "agent": "",
    "act": "cyan",
    "turn": "dim",
    "trouble": "red",
}
_HELP: Final = (
    "q, Ctrl-C   quit; the daemon goes on",
    "r r         restart the server when no turn runs",
    "up, k       the session above",
    "down, j     the session below",
    "Enter       look into the session: its last turns",
    "            there, arrows, PgUp, PgDn, g and G scroll, Esc goes back",
    "?           this, and back",
    "",
    "CPU is in percent of one core; pages of memory that processes share",
    "count for each of them. The bars are the restarts of the last 24 hours,",
    "an hour each; messages are those of clients, and those to them.",
)

Part = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Canvas:
    """What is drawn on, and when: ``now`` is the wall clock's, ``tick`` the other one's.

    ``ascii_only``: the terminal takes nothing else.
    """

    width: int
    height: int
    now: datetime
    tick: float
    ascii_only: bool = False

    def row(self, *parts: Part, right: Part = "") -> Text:
        """A line that is just as wide: what is too long is cut, ``right`` stands at its end."""
        text = Text.assemble(*parts, no_wrap=True, end="")
        tail = Text.assemble(right, end="")
        if tail.plain and text.cell_len + tail.cell_len < self.width:
            text.truncate(self.width - tail.cell_len, pad=True)
            text.append_text(tail)
        text.truncate(self.width, overflow="crop" if self.ascii_only else "ellipsis", pad=True)
        return text

    def heading(self, text: str, right: str = "") -> Text:
        """The line above a list."""
        line = self.row(f"{text} ", right=f" {right}" if right else "")
        line.stylize("bold reverse" if self.width > 1 else "")
        return line


@dataclass(frozen=True, slots=True)
class Frame:
    """As many lines as the canvas is high, each as wide as it is.

    ``most`` is how far what is looked into can be scrolled, ``page`` how much of it is seen.
    """

    lines: list[Text]
    most: int = 0
    page: int = 1


def draw(model: Model, canvas: Canvas) -> Frame:
    """The view."""
    if model.shows_help:
        lines = [canvas.row(("codexd top", "bold")), canvas.row()]
        frame = Frame([*lines, *(canvas.row(line) for line in _HELP)])
    elif model.look is not None:
        frame = _draw_look(model.look, model.away, canvas)
    else:
        frame = Frame(_draw_all(model, canvas))
    body = frame.lines[: max(canvas.height - 1, 0)]
    body += [canvas.row()] * (canvas.height - 1 - len(body))
    lines = [*body, _footer(model, canvas)][: canvas.height]
    return replace(frame, lines=lines)


def _footer(model: Model, canvas: Canvas) -> Text:
    note = model.note(canvas.tick)
    if note:
        return canvas.row((one_line(note), "bold yellow"))
    if model.shows_help:
        keys = "Esc back  q quit"
    elif model.look is not None:
        keys = "arrows PgUp PgDn scroll  Esc back  r restart when idle  q quit"
    else:
        keys = "q quit  r restart when idle  arrows choose  Enter look in  ? help"
    return canvas.row((keys, "dim"))


# -- all of it ---------------------------------------------------------------------------------


def _draw_all(model: Model, canvas: Canvas) -> list[Text]:
    lines = list(_head(model, canvas))
    processes = [] if model.snapshot is None or model.away else model.snapshot.processes
    heights = _shares(canvas.height - 1 - len(lines), len(processes), len(model.sessions))
    lines += _processes(processes, heights[0], canvas)
    lines += _sessions(model, heights[1], canvas)
    lines += _events(model, heights[2], canvas)
    return lines


def _shares(height: int, processes: int, sessions: int) -> tuple[int, int, int]:
    """How many lines the lists get, their headings included; events have what is left."""
    third = height // 3
    first = 1 + min(max(processes, 1), max(third - 1, _FEWEST))
    second = 1 + min(max(sessions, 1), max(third - 1, _FEWEST))
    return first, second, max(height - first - second, 0)


def _head(model: Model, canvas: Canvas) -> Iterator[Text]:
    snapshot = model.snapshot
    name = f"codexd {__version__}"
    if snapshot is not None and snapshot.status.identity is not None:
        name += f"  {one_line(snapshot.status.identity.node_id)}"
    clock = canvas.now.astimezone().strftime("%H:%M:%S")
    yield canvas.row((name, "bold"), f"  {one_line(model.place)}", right=f"  {clock}")
    if model.away is not None:
        again = "" if snapshot is None else " What follows is as it was."
        yield canvas.row((one_line(model.away), "bold red"))
        yield canvas.row((f"It is tried again every second.{again}", "dim"))
    if snapshot is None:
        if model.away is None:
            yield canvas.row("asking the daemon")
        return
    if model.away is None:
        yield _server(snapshot, canvas)
        if snapshot.status.daemon.child.last_error and not snapshot.status.daemon.child.ready:
            yield _trouble(snapshot.status.daemon.child, canvas)
        yield _hub(model, snapshot, canvas)
    yield _restarts(model, canvas)


def _label(text: str) -> Part:
    return (text.ljust(_LABEL), "bold")


def _server(snapshot: Snapshot, canvas: Canvas) -> Text:
    child, hub = snapshot.status.daemon.child, snapshot.status.hub
    state = "ready" if child.ready and hub.ready else child.status
    parts: list[Part] = [_label("server"), (state, _STATE_STYLES.get(state, ""))]
    if state == "running" and child.mode == "app-server":
        parts.append(" and does not answer yet")
    if child.pid is not None:
        parts.append(f"  pid {child.pid}")
    if hub.server_version:
        parts.append(f"  codex {one_line(hub.server_version)}")
    if child.pid is not None and child.started_at:
        parts.append(f"  up {format_age(child.started_at, canvas.now)}")
    if snapshot.status.daemon.started_at:
        parts.append(f"  (daemon {format_age(snapshot.status.daemon.started_at, canvas.now)})")
    return canvas.row(*parts, f"  {one_line(child.endpoint)}")


def _trouble(child: ChildState, canvas: Canvas) -> Text:
    text = one_line(" ".join((child.last_error or "").split()))
    again = child.next_restart_at
    when = "" if again is None else f"next try {local_time(again, canvas.now)}"
    return canvas.row((" " * _LABEL + text, "red"), right=f"  {when}")


def _hub(model: Model, snapshot: Snapshot, canvas: Canvas) -> Text:
    hub = snapshot.status.hub
    approvals = _count(hub.waiting_approvals, "approval")
    parts: list[Part] = [
        _label("hub"),
        f"{_count(hub.clients, 'client')}  ",
        (_count(hub.running_turns, "turn"), "green" if hub.running_turns else ""),
        "  ",
        (approvals, "bold yellow" if hub.waiting_approvals else ""),
        f"  {_count(hub.waiting_requests, 'request')}",
    ]
    rates = model.rates
    told = "-" if rates is None else f"{_rate(rates.came)} in {_rate(rates.went)} out"
    return canvas.row(*parts, f"  messages/s {told}")


def _restarts(model: Model, canvas: Canvas) -> Text:
    now = canvas.now.timestamp()
    found = model.restarts.of_last_day(now)
    bars = sparkline(model.restarts.histogram(now, _BARS), ascii_only=canvas.ascii_only)
    parts: list[Part] = [_label("restarts"), f"{len(found)} in a day  ", (bars, "cyan")]
    if found:
        last = datetime.fromtimestamp(found[-1], UTC).isoformat()
        cause = model.restarts.last_cause
        parts.append(f"  last {format_age(last, canvas.now)} ago")
        parts.append(f": {one_line(cause)}" if cause else "")
    return canvas.row(*parts)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate < 10 else f"{rate:.0f}"


# -- its lists ---------------------------------------------------------------------------------


def _processes(processes: Sequence[Process], height: int, canvas: Canvas) -> list[Text]:
    memory = _bytes(sum(one.resident for one in processes))
    total = f"all: {_percent(_sum(processes))} %  {memory}" if processes else ""
    lines = [canvas.heading("    PID  CPU %    MEMORY  PROCESS", total)]
    if not processes:
        lines.append(canvas.row(("  none", "dim")))
    room = height - 1
    shown, rest = list(processes), list[Process]()
    if len(processes) > room:
        # The daemon's own stay; of others, those that do most.
        own = [one for one in processes if one.role != "other"]
        others = [one for one in processes if one.role == "other"]
        busy = own + sorted(others, key=lambda one: -(one.cpu or 0.0))
        shown, rest = busy[: max(room - 1, 0)], busy[max(room - 1, 0) :]
    lines += [_process(str(one.pid), one.cpu, one.resident, one.name, canvas) for one in shown]
    if rest:
        taken = sum(one.resident for one in rest)
        lines.append(_process("", _sum(rest), taken, f"{len(rest)} more", canvas))
    return lines[:height]


def _process(pid: str, cpu: float | None, resident: int, name: str, canvas: Canvas) -> Text:
    numbers = f"{pid:>7}  {_percent(cpu):>5}  {_bytes(resident):>8}  "
    style = "bold yellow" if cpu is not None and cpu >= 80 else ""
    return canvas.row((numbers, style), one_line(name))


def _sum(processes: Sequence[Process]) -> float | None:
    known = [one.cpu for one in processes if one.cpu is not None]
    return sum(known) if known else None


def _percent(cpu: float | None) -> str:
    return "-" if cpu is None else f"{cpu:.1f}"


def _bytes(count: int) -> str:
    mebibytes = count / (1 << 20)
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1000 else f"{mebibytes:.0f} MiB"


def _sessions(model: Model, height: int, canvas: Canvas) -> list[Text]:
    found = model.sessions
    lines = [
        canvas.heading("  SESSION   TURN            CLIENT      TITLE", f"{len(found)} active")
    ]
    if not found:
        lines.append(canvas.row(("  none", "dim")))
    room = max(height - 1, 0)
    ids = [session.session_id for session in found]
    at = ids.index(model.selected) if model.selected in ids else 0
    # The chosen one is always to be seen.
    first = max(0, min(at - room // 2, len(found) - room))
    short = shortened(ids)
    for session in found[first : first + room]:
        lines.append(_session(session, short(session.session_id), model, canvas))
    return lines[:height]


def _session(session: Session, name: str, model: Model, canvas: Canvas) -> Text:
    is_chosen = session.session_id == model.selected
    state, style = _turn(session, model, canvas)
    title = session.title or session.cwd or session.thread_id or "(no thread yet)"
    line = canvas.row(
        f"{'>' if is_chosen else ' '} {_fitted(one_line(name), 8)}  ",
        (_fitted(state, 14), style),
        f"  {_fitted(_clients(session), 10)}  {one_line(title)}",
    )
    if is_chosen:
        line.stylize("bold")
    return line


def _turn(session: Session, model: Model, canvas: Canvas) -> tuple[str, str]:
    last = model.turns.of(session.thread_id)
    if session.turn is not None and (last is None or last.state != "running"):
        # Begun before what is known of the past.
        return "runs", "green"
    if last is None:
        return "-", "dim"
    age = format_age(last.since, canvas.now)
    if last.state == "running":
        return f"runs {age}", "green"
    if last.state == "completed":
        return f"done {age}", ""
    return f"cut {age}", "yellow"


def _clients(session: Session) -> str:
    first, *rest = session.clients or ["-"]
    return f"{one_line(first)} +{len(rest)}" if rest else one_line(first)


def _fitted(text: str, width: int) -> str:
    """Cut or filled to just so many columns."""
    return (
        text + " " * (width - cell_len(text))
        if cell_len(text) < width
        else set_cell_size(text, width)
    )


def _events(model: Model, height: int, canvas: Canvas) -> list[Text]:
    if height < 1:
        return []
    lines = [canvas.heading("EVENTS")]
    if not model.events:
        lines.append(canvas.row(("  none", "dim")))
    newest = list(model.events)[-(height - 1) :] if height > 1 else []
    # At the top: where the eye is, and where lists of different lengths stay in place.
    return [*lines, *(_event(event, canvas) for event in reversed(newest))]


def _event(event: Event, canvas: Canvas) -> Text:
    time = local_time(event.created_at, canvas.now)
    # Of another day, that day.
    time = time if len(time) == _CLOCK else time[5:10].ljust(_CLOCK)
    style = _LEVEL_STYLES.get(event.level, "")
    # Colours of the server's own log are of no use here; what else it has is spelt out.
    message = one_line(" ".join(harmless(event.message).split()))
    return canvas.row((time, "dim"), f"  {_fitted(one_line(event.type), 20)}  ", (message, style))


# -- one of its sessions -----------------------------------------------------------------------


def _draw_look(look: Look, away: str | None, canvas: Canvas) -> Frame:
    title = look.text.title if look.text else (look.session.title or "")
    where = one_line(look.session.cwd or "")
    lines = [canvas.heading(one_line(title) or "a thread", where)]
    trouble = away or look.trouble
    if trouble is not None:
        lines.append(canvas.row((one_line(trouble), "bold red")))
    elif look.text is None:
        lines.append(canvas.row(("reading the thread", "dim")))
    said = look.text.lines(canvas.width) if look.text else []
    room = max(canvas.height - 1 - len(lines), 1)
    most = max(len(said) - room, 0)
    end = len(said) - min(look.scrolled, most)
    shown = said[max(end - room, 0) : end]
    lines += [canvas.row((line.text, _SAID_STYLES[line.kind])) for line in shown]
    return Frame(lines, most, max(room - 1, 1))
