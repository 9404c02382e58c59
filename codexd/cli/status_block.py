"""`codexd status` for people: a few rows that say how it is, what is wrong, and what mends that.

Everything here is made of what was found (:class:`View`) and of nothing else.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from codexd.child.steps import Step
from codexd.cli.called import as_called
from codexd.cli.daemons import format_age
from codexd.cli.start_words import attach_url
from codexd.cli.status import notes, status_line
from codexd.cli.terminal import Paint, Style, cells, clipped, one_line
from codexd.client.find import flags_of
from codexd.client.live import Live
from codexd.contracts import ChildState
from codexd.daemons.listing import ListedDaemon
from codexd.store.snapshot import Snapshot

_LABEL: Final = 11
_NARROWEST: Final = 20
# The names of so many kinds of clients; of the others it is told how many there are.
_NAMES: Final = 4
_NAME_COLUMNS: Final = 20
_REMARK: Final = "codexd: "


class View(NamedTuple):
    """What was found. ``ends`` are the ends of children, the newest last; ``cwd`` and ``home`` are
    the caller's; ``elsewhere`` are other daemons, ``version`` that of this codexd, ``called`` what
    is typed to run it."""

    snapshot: Snapshot
    live: Live
    ends: Sequence[Step]
    elsewhere: Sequence[ListedDaemon]
    cwd: str
    home: str
    version: str
    now: datetime
    called: str = "codexd"

    @property
    def hub(self) -> dict[str, Any]:
        """What the hub tells; nothing where it does not answer."""
        hub = self.live.details["hub"]
        return hub if isinstance(hub, dict) else {}

    @property
    def child(self) -> ChildState:
        """The child, as far as it is true."""
        return self.live.daemon.child

    @property
    def is_running(self) -> bool:
        """Whether a daemon lives."""
        return bool(self.live.details["daemonAlive"])


def block(view: View, width: int, paint: Paint) -> list[str]:
    """The lines, the last of which is that of `codexd status`.

    None is wider than ``width`` but that one, and those that are one long word.
    """
    word, style = _state(view)
    place = _short(view.live.config.paths.repo_root, view.home)
    head = _wrapped(f"codexd of {place}: {word}", width)
    lines = [paint(line, "bold", style) for line in head]
    rows = _rows_running(view) if view.is_running else _rows_stopped(view)
    for label, text in rows:
        lines += _row(label, as_called(text, view.called), width, paint)
    for problem in problems(view):
        lines += _row("!", as_called(problem, view.called), width, paint, "yellow")
    line = status_line(view.snapshot, view.live).partition("\n")[0]
    return [*lines, paint(one_line(line), "dim")]


def _state(view: View) -> tuple[str, Style]:
    """How it is in a word or three, and the colour of that."""
    child = view.child
    if not view.is_running:
        return "not running", "yellow"
    if view.live.up:
        return ("ready" if child.mode == "app-server" else "running"), "green"
    if not view.live.daemon.started:
        return "starting", "yellow"
    if child.status == "failed":
        return "the server has failed", "red"
    if child.status in ("stopped", "idle"):
        return "the server is stopped", "yellow"
    return "not ready", "yellow"


# -- a daemon that runs ------------------------------------------------------------------------


def _rows_running(view: View) -> Iterator[tuple[str, str]]:
    yield "server", _server(view)
    if view.child.restarts:
        yield "restarts", _restarts(view)
    yield "daemon", _daemon(view)
    if view.hub:
        yield from _rows_hub(view)
    if view.child.status == "failed":
        yield "look at", "`codexd logs stderr -n 50` and `codexd events -n 20`"


def _server(view: View) -> str:
    child = view.child
    version = view.hub.get("serverVersion")
    name = f"codex {version}" if isinstance(version, str) else os.path.basename(child.command or "")
    if child.strategy == "external":
        said = "answers" if child.ready else "does not answer"
        return f"external, on {child.endpoint}: {said}"
    if child.status == "running":
        state = "ready" if child.ready or child.mode == "exec" else "not ready yet"
        age = _age(child.started_at, view.now)
        return _joined(name, f"pid {child.pid}", f"up {age}", state)
    if child.status == "failed":
        return _joined(name, f"failed {_age(child.exited_at, view.now)} ago", _next_try(view))
    return _joined(name, child.status)


def _next_try(view: View) -> str:
    if view.child.next_restart_at is None:
        return "it is not started again: `codexd restart` does"
    left_s = -_seconds(view.child.next_restart_at, view.now)
    return "it is being started again" if left_s < 1 else f"next try in {left_s:.0f} s"


def _restarts(view: View) -> str:
    count = view.child.restarts
    last = f", the last {_ago(view.ends[-1], view.now)}: {_why(view)}" if view.ends else ""
    return f"{count} since the daemon started{last}"


def _ago(step: Step, now: datetime) -> str:
    at = datetime.fromtimestamp(step.at, now.tzinfo)
    return f"{format_age(at.isoformat(), now)} ago"


def _why(view: View) -> str:
    """Why the last child ended."""
    step = view.ends[-1]
    for event in reversed(view.snapshot.recent.events):
        is_cause = event.type in ("child.unhealthy", "child.recycling")
        if is_cause and (event.detail or {}).get("pid") == step.pid:
            return event.message
    if step.asked:
        return "it was asked for"
    if step.code is None:
        return "it was gone"
    if step.code < 0:
        return f"it was killed by signal {-step.code}"
    said = f": {step.error}" if step.error else ""
    return f"it ended with code {step.code}{said}"


def _daemon(view: View) -> str:
    live, identity = view.live, view.snapshot.identity
    version = view.hub.get("codexdVersion")
    return _joined(
        f"codexd {version}" if isinstance(version, str) else "codexd",
        f"pid {live.details['daemonPid']}",
        f"up {_age(live.daemon.started_at, view.now)}",
        f"node {identity.node_id if identity else live.config.node_id}",
    )


def _rows_hub(view: View) -> Iterator[tuple[str, str]]:
    hub, config = view.hub, view.live.config
    if config.server.mode != "app-server":
        return
    yield "clients", _clients(hub)
    yield "turns", _turns(hub)
    login = _login(view.live.details["account"])
    if login is not None:
        yield "login", login
    yield "attach", f"codex --remote {attach_url(config)}"
    tcp = hub.get("tcp")
    if isinstance(tcp, dict) and tcp.get("url"):
        yield "", f"{tcp['url']}, with the token that `codexd token` prints"


def _clients(hub: dict[str, Any]) -> str:
    count, names = _number(hub, "clients"), hub.get("clientNames")
    if not count:
        return "none"
    if not isinstance(names, dict):
        return str(count)
    ranked = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    shown = [
        clipped(one_line(name), _NAME_COLUMNS) + ("" if many == 1 else f" ({many})")
        for name, many in ranked[:_NAMES]
    ]
    others = count - sum(many for _, many in ranked[:_NAMES])
    return ", ".join([*shown, *([f"{others} more"] if others else [])])


def _turns(hub: dict[str, Any]) -> str:
    running, waiting = _number(hub, "runningTurns"), _number(hub, "waitingApprovals")
    parts = [f"{running} running" if running else "none running"]
    threads = _number(hub, "threads")
    parts.append(f"{threads} {'thread' if threads == 1 else 'threads'} open")
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        parts.append(f"{waiting} {verb} for an approval: `codexd approvals`")
    return ", ".join(parts)


def _login(account: dict[str, Any] | None) -> str | None:
    if account is None:
        return None
    if account["loggedIn"]:
        return f"logged in ({account['type']})"
    # Where none is needed, nobody wants to read of it.
    return "not logged in" if account["required"] else None


# -- no daemon ---------------------------------------------------------------------------------


def _rows_stopped(view: View) -> Iterator[tuple[str, str]]:
    recorded = view.snapshot.daemon
    if recorded.started:
        yield "last", "the daemon ended without a word: it was killed, or the machine went down"
    elif recorded.stopped_at is not None:
        yield "last", f"stopped {_age(recorded.stopped_at, view.now)} ago"
    else:
        yield "last", "none has run here"
    repo = view.live.config.paths.repo_root
    where = "" if repo == view.cwd else f" --repo-root {shlex.quote(repo)}"
    yield "start", f"{view.called} start{where}"
    for number, (daemon, flag) in enumerate(flags_of(view.elsewhere)):
        label = "" if number else "elsewhere"
        up = format_age(daemon.started_at, view.now)
        yield label, f"{view.called} status {flag} (pid {daemon.daemon.pid}, up {up})"


# -- what is wrong -----------------------------------------------------------------------------


def problems(view: View) -> list[str]:
    """What is wrong, and the command that mends it, a sentence each."""
    shown = {_login_note(view), *_tcp_notes(view)}
    found = [note for note in notes(view.live) if note not in shown]
    found += [remark.removeprefix(_REMARK) for remark in view.live.remarks]
    version = view.hub.get("codexdVersion")
    if isinstance(version, str) and version != view.version:
        found.append(
            f"the daemon is codexd {version}, and this is {view.version}: `codexd stop` and "
            "`codexd start` take the new one"
        )
    if _number(view.hub, "resumingThreads"):
        found.append(f"{view.hub['resumingThreads']} threads are being resumed")
    return [_sentence(text) for text in found]


def _login_note(view: View) -> str | None:
    """What the row about the login says already."""
    account = view.live.details["account"]
    if account is None:
        return "the server has not said whether it is logged in"
    return f"the server is logged in ({account['type']})"


def _tcp_notes(view: View) -> list[str]:
    from codexd.cli.status import tcp_note

    note = tcp_note(view.live.details["hub"])
    return [] if note is None else [note]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "`")) else ".")


# -- texts -------------------------------------------------------------------------------------


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _number(hub: dict[str, Any], name: str) -> int:
    value = hub.get(name)
    return value if isinstance(value, int) else 0


def _age(since: str | None, now: datetime) -> str:
    return "?" if since is None else format_age(since, now)


def _seconds(moment: str, now: datetime) -> float:
    """How long ago it was."""
    try:
        return (now - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _short(path: str, home: str) -> str:
    home = home.rstrip("/")
    is_below = bool(home) and (path == home or path.startswith(f"{home}/"))
    return f"~{path[len(home) :]}" if is_below else path


def _row(label: str, text: str, width: int, paint: Paint, *styles: Style) -> Iterator[str]:
    head = f"  {label}".ljust(_LABEL) + " "
    for line in _wrapped(text, max(width - len(head), _NARROWEST)):
        yield paint(head, *(styles or ("dim",))) + paint(line, *styles)
        head = " " * len(head)


def _wrapped(text: str, width: int) -> Iterator[str]:
    """``text`` in lines of at most ``width`` columns, broken at spaces.

    A longer word stays whole, for the terminal to fold: it is a path, which people copy.
    """
    line = ""
    for word in one_line(text).split(" "):
        longer = f"{line} {word}" if line else word
        if cells(longer) > width and line:
            yield line.rstrip()
            longer = word
        line = longer
    yield line.rstrip()
