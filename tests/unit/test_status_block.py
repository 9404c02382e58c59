"""What `codexd status` shows people: a block made of what was found, in every state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from codexd.child.steps import Step
from codexd.cli.status_block import View, block
from codexd.cli.terminal import cells
from codexd.client.live import Live
from codexd.config import resolve
from codexd.contracts import ChildState, DaemonState, Event, Identity, RecentEvents, SessionRegistry
from codexd.daemons.listing import ListedDaemon
from codexd.platform.process import ProcessId
from codexd.store.snapshot import Snapshot

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
CONFIG = resolve({"repo_root": "/home/me/app"}, {}, cwd="/", uid=7)
HUB: dict[str, Any] = {
    "codexdVersion": "0.1.0",
    "serverVersion": "0.163.0",
    "clients": 3,
    "clientNames": {"codex-tui": 2, "codexd-attach": 1},
    "runningTurns": 1,
    "waitingApprovals": 0,
    "threads": 4,
    "resumingThreads": 0,
    "tcp": None,
}
ACCOUNT = {"loggedIn": True, "required": True, "type": "chatgpt"}
CHILD = ChildState(
    strategy="spawn",
    mode="app-server",
    endpoint="stdio://codex-app-server",
    status="running",
    command="codex",
    pid=4711,
    started_at="2026-01-02T09:57:00.000Z",
    ready=True,
    ready_at="2026-01-02T09:57:01.000Z",
)
FAILED = {
    "status": "failed",
    "pid": None,
    "ready": False,
    "exited_at": "2026-01-02T11:59:48.000Z",
    "exit_code": 1,
    "last_error": "Child exited with code 1: Error: config.toml is broken",
    "next_restart_at": "2026-01-02T12:00:08.000Z",
    "restarts": 5,
}


def view(
    *,
    child: dict[str, Any] | None = None,
    hub: dict[str, Any] | None = None,
    alive: bool = True,
    up: bool = True,
    recorded: bool | None = None,
    account: dict[str, Any] | None = ACCOUNT,
    health: dict[str, Any] | None = None,
    remarks: tuple[str, ...] = (),
    ends: tuple[Step, ...] = (),
    events: tuple[Event, ...] = (),
    elsewhere: tuple[ListedDaemon, ...] = (),
    stopped_at: str | None = None,
    mode: str = "app-server",
    answers: bool = True,
) -> View:
    told = {**HUB, **(hub or {})} if alive and answers else None
    state = DaemonState(
        started=alive,
        started_at="2025-12-30T10:00:00.000Z",
        stopped_at=stopped_at,
        updated_at="2026-01-02T09:57:01.000Z",
        pid=4710 if alive else None,
        child=msgspec.structs.replace(CHILD, **(child or {})),
    )
    server = msgspec.structs.replace(CONFIG.server, mode=mode)
    details = {"daemonAlive": alive, "daemonPid": 4710 if alive else None, "hub": told}
    details |= {"health": health, "account": account if told else None}
    config = msgspec.structs.replace(CONFIG, server=server)
    live = Live(config=config, daemon=state, details=details, remarks=[*remarks], up=up)
    raw = msgspec.structs.replace(state, started=alive if recorded is None else recorded)
    return View(
        snapshot=Snapshot(
            identity=Identity(daemon_id="d-1", node_id="mini", repo_root="/r", created_at=""),
            daemon=raw,
            sessions=SessionRegistry(),
            recent=RecentEvents(max_entries=50, events=[*events]),
        ),
        live=live,
        ends=ends,
        elsewhere=elsewhere,
        cwd="/home/me/app",
        home="/home/me",
        version="0.1.0",
        now=NOW,
    )


def end(**values: Any) -> Step:
    return Step(number=1, kind="ended", at=NOW.timestamp() - 300, generation=1, pid=99, **values)


def other(repo: str, pid: int) -> ListedDaemon:
    return ListedDaemon(
        daemon=ProcessId(pid, "t"),
        node_id="mini",
        repo_root=repo,
        state_dir=f"{repo}/state/codexd",
        logs_dir=f"{repo}/logs/codexd",
        hub_socket_path="/x",
        codex_home=None,
        started_at="2026-01-02T10:00:00.000Z",
    )


def plain(text: str, *styles: str) -> str:
    del styles
    return text


def shown(found: View, width: int = 80) -> str:
    """All but the last line, which is that of `codexd status` as ever."""
    *lines, line = block(found, width, plain)
    assert line.startswith("identity=d-1 node=mini daemon=")
    return "\n".join(lines) + "\n"


def test_a_daemon_that_is_well() -> None:
    assert shown(view()) == (
        "codexd of ~/app: ready\n"
        "  server    codex 0.163.0, pid 4711, up 2h 3m, ready\n"
        "  daemon    codexd 0.1.0, pid 4710, up 3d 2h, node mini\n"
        "  clients   codex-tui (2), codexd-attach\n"
        "  turns     1 running, 4 threads open\n"
        "  login     logged in (chatgpt)\n"
        "  attach    codex --remote unix:///home/me/app/state/codexd/run/codexd.sock\n"
    )


def test_a_server_that_fails() -> None:
    hub: dict[str, Any] = {"serverVersion": None, "clients": 0, "clientNames": {}}
    hub |= {"runningTurns": 0, "threads": 0}
    said = end(code=1, error="Error: config.toml is broken")
    assert shown(view(child=FAILED, hub=hub, up=False, account=None, ends=(said,))) == (
        "codexd of ~/app: the server has failed\n"
        "  server    codex, failed 12s ago, next try in 8 s\n"
        "  restarts  5 since the daemon started, the last 5m ago: it ended with code 1:\n"
        "            Error: config.toml is broken\n"
        "  daemon    codexd 0.1.0, pid 4710, up 3d 2h, node mini\n"
        "  clients   none\n"
        "  turns     none running, 0 threads open\n"
        "  attach    codex --remote unix:///home/me/app/state/codexd/run/codexd.sock\n"
        "  look at   `codexd logs stderr -n 50` and `codexd events -n 20`\n"
        "  !         Child exited with code 1: Error: config.toml is broken.\n"
    )


def test_nobody_runs_here_and_others_elsewhere() -> None:
    elsewhere = (other("/home/me/other", 17), other("/srv/a b", 18))
    stopped = {"status": "stopped", "pid": None, "ready": False}
    found = view(
        alive=False,
        up=False,
        child=stopped,
        stopped_at="2026-01-02T09:00:00.000Z",
        elsewhere=elsewhere,
    )
    assert shown(found) == (
        "codexd of ~/app: not running\n"
        "  last      stopped 3h 0m ago\n"
        "  start     codexd start\n"
        "  elsewhere codexd status --repo-root /home/me/other (pid 17, up 2h 0m)\n"
        "            codexd status --repo-root '/srv/a b' (pid 18, up 2h 0m)\n"
    )


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (view(child={"restarts": 1}, ends=(end(code=-9),)), "5m ago: it was killed by signal 9"),
        (view(child={"restarts": 1}, ends=(end(code=0, asked=True),)), ": it was asked for"),
        (view(child={"restarts": 1}, ends=(end(),)), ": it was gone"),
        (
            view(
                child={"restarts": 2},
                ends=(end(code=-9),),
                events=(
                    Event(
                        seq=1,
                        created_at="",
                        level="error",
                        type="child.unhealthy",
                        message="The child is deaf.",
                        detail={"pid": 99},
                    ),
                ),
            ),
            ": The child is deaf.",
        ),
        (view(child={"status": "stopped", "ready": False}, up=False), ": the server is stopped"),
        (
            view(child={"ready": False}, up=False),
            "up 2h 3m, not ready yet",
        ),
        (
            view(child={"ready": False}, up=False),
            "! The server has not answered yet on",
        ),
        (view(child={"strategy": "external"}), "external, on stdio://codex-app-server: answers"),
        (view(child={**FAILED, "next_restart_at": None}, up=False), "`codexd restart` does"),
        (view(child={**FAILED, "next_restart_at": "?"}, up=False), "it is being started again"),
        (view(child={**FAILED, "exited_at": "soon"}, up=False), "failed ? ago"),
        (view(account={**ACCOUNT, "loggedIn": False}), "login not logged in"),
        (
            view(account={**ACCOUNT, "loggedIn": False}),
            "! The server is not logged in: run `codex",
        ),
        (view(hub={"waitingApprovals": 2}), "4 threads open, 2 wait for an approval: `"),
        (view(hub={"waitingApprovals": 1}), "4 threads open, 1 waits for an approval: `"),
        (view(hub={"clients": 9}), "codex-tui (2), codexd-attach, 6 more"),
        (view(hub={"codexdVersion": "0.0.9"}), "The daemon is codexd 0.0.9, and this is 0.1.0:"),
        (view(hub={"resumingThreads": 3}), "! 3 threads are being resumed."),
        (view(hub={"tcp": {"url": "ws://127.0.0.1:9"}}), "codexd.sock ws://127.0.0.1:9, with the"),
        (view(health={"misses": 2, "lastAnswerAt": "x"}), "The server has missed 2 health checks"),
        (view(remarks=("codexd: codex on disk is new: `codexd restart`",)), "Codex on disk is new"),
        (view(answers=False, up=False), "codexd of ~/app: not ready server"),
        (
            view(mode="exec", child={"mode": "exec", "ready": False}),
            "codexd of ~/app: running server",
        ),
        (view(alive=False, up=False, recorded=True), "last the daemon ended without a word"),
        (view(alive=False, up=False), "last none has run here"),
        # An older daemon tells less, and a strange one anything.
        (view(hub={"clientNames": None, "serverVersion": 7}), "clients 3 turns"),
        (
            view(hub={"tcp": 7, "threads": None, "runningTurns": "x"}),
            "none running, 0 threads open",
        ),
    ],
)
def test_every_state_has_its_words(found: View, line: str) -> None:
    # However it is broken into lines.
    assert line in " ".join(shown(found).split())


def test_a_login_that_nobody_needs_is_not_told() -> None:
    assert "login" not in shown(view(account={"loggedIn": False, "required": False, "type": None}))


def test_where_to_start_is_told_from_elsewhere() -> None:
    found = view(alive=False, up=False)._replace(cwd="/tmp")
    assert "codexd start --repo-root /home/me/app" in shown(found)


@pytest.mark.parametrize("width", [40, 57, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    hub = {"clientNames": {"端末の客" * 20: 2, "x" * 200: 1}}
    for found in (
        view(child=FAILED, hub=hub, up=False, ends=(end(code=1, error="長い言葉 " * 30),)),
        view(alive=False, up=False, elsewhere=(other("/home/y" + " y" * 200, 1),)),
    ):
        for line in block(found, width, plain)[:-1]:
            assert cells(line) <= width or len(line.split()) == 1
            assert line == line.rstrip()


def test_a_long_path_is_left_whole_for_whoever_copies_it() -> None:
    path = "/home/" + "y" * 100
    found = view(alive=False, up=False, elsewhere=(other(path, 1),))
    assert f" {path}\n" in shown(found)


def test_what_others_wrote_steers_no_terminal() -> None:
    error = "\x1b]0;x\x07red\x1b[31m\nsecond"
    hub = {"clientNames": {"evil\x1b[2J": 3}}
    found = view(child={**FAILED, "last_error": error}, hub=hub, up=False)
    assert all(line.isprintable() for line in block(found, 80, plain))


def test_the_line_is_dim_and_the_state_has_its_colour() -> None:
    def marked(text: str, *styles: str) -> str:
        return f"<{' '.join(styles)}>{text}" if styles else text

    head, *_, line = block(view(), 80, marked)
    assert head.startswith("<bold green>codexd of")
    assert line.startswith("<dim>identity=")
    assert block(view(child=FAILED, up=False), 80, marked)[0].startswith("<bold red>")
